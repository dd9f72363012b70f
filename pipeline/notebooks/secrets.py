"""Keys and tokens that must not travel in a kernel: found by their form, or by being the user's.

Hashes are everywhere in these notebooks, so a bare run of hex digits is no finding; one beside
the word "key" is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_BESIDE = r"[^0-9A-Za-z\n]{1,12}"  # what stands between a name and its value: `"] = "`
_END = r"(?![0-9A-Za-z])"
_FORMS = {
    "Kaggle token": r"\bKGAT_[A-Za-z0-9_-]{16,}",
    "Kaggle key": rf"(?i:key){_BESIDE}([0-9a-f]{{32}}){_END}",
    "Weights & Biases key": rf"(?i:key){_BESIDE}([0-9a-f]{{40}}){_END}",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret key": rf"(?i:secret_?(?:access_?)?key){_BESIDE}([0-9A-Za-z/+]{{40}}){_END}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{32,}",
    "Authorization header": r"(?i:authorization\W{1,6}(?:basic|bearer))\s+([\w+/.~-]{8,}=*)",
    "password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]+:([^\s/@'\"{}]{3,})@",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_PATTERNS = {kind: re.compile(form) for kind, form in _FORMS.items()}
_SHORTEST_KNOWN = 8  # a shorter one would be found inside ordinary words


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret: its kind, where it stands, and its first characters only."""

    kind: str
    where: str
    beginning: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where} ({self.beginning}...)"


def scan_for_secrets(text: str, known: Iterable[str] = ()) -> list[Finding]:
    """Every secret in a file's text; a notebook is read cell by cell, other JSON key by key.

    `known` are the user's own credentials; they are found anywhere, whatever their form.
    """
    own = [secret for secret in known if len(secret) >= _SHORTEST_KNOWN]
    return [
        finding
        for where, line in _lines(text)
        for finding in (*_by_form(where, line), *_by_value(where, line, own))
    ]


def _by_form(where: str, line: str) -> Iterator[Finding]:
    for kind, pattern in _PATTERNS.items():
        for match in pattern.finditer(line):
            secret = match[match.lastindex or 0]
            yield Finding(kind, where, secret[:4])


def _by_value(where: str, line: str, known: Iterable[str]) -> Iterator[Finding]:
    for secret in known:
        if secret in line:
            yield Finding("one of your credentials", where, secret[:2])


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line of the text as a reader sees it, with its place; JSON's escapes are undone."""
    try:
        value = json.loads(text)
    except ValueError:
        yield from _numbered("", text)
        return
    yield from _leaves(value, "")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{number}]")
    elif isinstance(value, list):  # a cell's source: one item per line
        yield from _numbered(name, "\n".join(item.removesuffix("\n") for item in value))
    elif isinstance(value, str):
        yield from _numbered(name, f"{name}: {value}")  # the key tells what the value is


def _numbered(name: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"{name} line {number}".strip(), line
