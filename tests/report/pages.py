"""A page as a test reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Every number with its key: all its digits, and as it is shown; and the pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = {}
        self.shown: dict[str, list[str]] = {}
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.text = path.read_text()
        self._key = ""
        self.feed(self.text)

    def number(self, key: str) -> float:
        """The only value of a key."""
        (value,) = self.values[key]
        return float(value)

    def numbers(self, prefix: str, key: str) -> list[float]:
        """The values of `<prefix>.0.<key>`, `<prefix>.1.<key>` and so on."""
        found = []
        while f"{prefix}.{len(found)}.{key}" in self.values:
            found.append(self.number(f"{prefix}.{len(found)}.{key}"))
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._key = values.get("data-key") or ""
        if self._key:
            self.values.setdefault(self._key, []).append(values["data-value"] or "")
        self.addresses += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            self.pictures.append(values)

    def handle_data(self, data: str) -> None:
        if self._key and data.strip():
            self.shown.setdefault(self._key, []).append(data)
            self._key = ""
