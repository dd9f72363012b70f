"""No key or token travels in a kernel, and no hash is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pipeline.notebooks import scan_for_secrets
from pipeline.notebooks.files import notebook_bytes

HEX = "0123456789abcdef"
# Joined here, so that no scanner takes this file for a leak.
PLANTED = {
    "Kaggle token": "token = '" + "KGAT_" + HEX * 2 + "'",
    "Kaggle key": '{"username":"alice","' + 'key":"' + HEX * 2 + '"}',
    "Kaggle key ": 'os.environ["KAGGLE_' + 'KEY"] = "' + HEX * 2 + '"',
    "Weights & Biases key": "wandb.login(" + "key='" + HEX * 2 + HEX[:8] + "')",
    "AWS access key": "aws = '" + "AKIA" + "ABCDEFGHIJKLMNOP" + "'",
    "AWS secret key": "aws_secret_access_" + "key = '" + "aB3/" * 10 + "'",
    "Hugging Face token": "login('" + "hf_" + "aBcDeFgHiJ" * 4 + "')",
    "GitHub token": "git clone https://" + "ghp_" + "a1B2" * 9 + "@github.com/a/b",
    "Google API key": "AIza" + "aBcDe" * 7,
    "OpenAI or Anthropic key": "sk-" + "ant-" + "aBcD" * 10,
    "Authorization header": "'Authorization': 'Basic " + "YWxpY2U6c2VjcmV0'",
    "password in an address": "pip install --index-url https://me:" + "hunter2@example.org/simple",
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("kind_of_file", ["text", "notebook", "output"])
def test_a_planted_secret_is_found(kind: str, kind_of_file: str) -> None:
    lines = f"x = 1\n{PLANTED[kind]}\ny = 2\n"
    cell = new_code_cell("x = 1" if kind_of_file == "output" else lines, id="a")
    if kind_of_file == "output":
        cell.outputs = [new_output("stream", text=lines)]
    notebook = new_notebook(cells=[new_markdown_cell("# Title", id="t"), cell])
    text = lines if kind_of_file == "text" else notebook_bytes(notebook).decode()

    findings = scan_for_secrets(text)

    assert kind.strip() in [finding.kind for finding in findings]
    assert all(PLANTED[kind] not in str(finding) for finding in findings)


def test_the_place_is_named() -> None:
    cells = [new_markdown_cell("# Title", id="t"), new_code_cell(PLANTED["Kaggle token"], id="c")]
    text = notebook_bytes(new_notebook(cells=cells)).decode()

    (finding,) = scan_for_secrets(text)

    assert str(finding) == "Kaggle token in cells[1].source line 1 (KGAT...)"


def test_the_users_own_credentials_are_found_whatever_their_form() -> None:
    own = "correct-horse-battery"
    text = json.dumps({"metadata": {"note": f"use {own} here"}})

    (finding,) = scan_for_secrets(text, known=[own, "abc"])

    assert finding.kind == "one of your credentials"
    assert finding.where == "metadata.note line 1"
    assert own not in str(finding)


@pytest.mark.parametrize(
    "harmless",
    [
        f"sha256: {HEX * 4}",
        f"key: {HEX[:12]}",
        f"cache key {HEX * 4}",
        f"commit {HEX * 2}{HEX[:8]}",
        f"md5 = '{HEX * 2}'",
        "raise ValueError('key=value: a key must be given')",
        "tokens = [KGAT_, hf_, sk-]",
        "https://www.kaggle.com/competitions/digits",
        "the Authorization header is sent",
    ],
)
def test_hashes_and_words_are_not_taken_for_secrets(harmless: str) -> None:
    assert scan_for_secrets(harmless) == []


def test_no_committed_kernel_has_a_finding() -> None:
    files = [p for p in (Path(__file__).parents[2] / "kernels").rglob("*.*") if p.is_file()]
    assert {p.name: f for p in files if (f := scan_for_secrets(p.read_text()))} == {}
