"""What the host knows about its competitions: settings, served files, hidden labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import ConfigError
from pipeline.host.database import Database, timestamp

_HIGHEST_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Contest:
    """Settings of one competition. `prepared_at` is None until its data was built.

    A code competition takes kernels only, and runs them again on a test set of its own.
    """

    slug: str
    daily_limit: int
    show_private: bool
    prepared_at: str | None
    is_code: bool


@dataclass(frozen=True, slots=True)
class ServedFile:
    """One downloadable file: its path inside the competition, and its size in bytes."""

    name: str
    size: int


class Contests:
    """The competitions of a host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, slugs: Iterable[str]) -> None:
        """Add the competitions that are new; every existing user accepts their rules."""
        with self._database.transaction() as db:
            for slug in slugs:
                if db.execute(
                    "INSERT OR IGNORE INTO competitions (slug) VALUES (?)", (slug,)
                ).rowcount:
                    db.execute("INSERT INTO accepted_rules SELECT id, ? FROM users", (slug,))

    def get(self, slug: str) -> Contest | None:
        """One competition, or None where the host has none of that name."""
        with self._database.snapshot() as db:
            row = db.execute(f"{_SELECT} WHERE slug = ?", (slug,)).fetchone()
        return _contest(row) if row else None

    def all(self) -> list[Contest]:
        """Every competition, by name."""
        with self._database.snapshot() as db:
            rows = db.execute(f"{_SELECT} ORDER BY slug").fetchall()
        return [_contest(row) for row in rows]

    def set_daily_limit(self, slug: str, limit: int) -> None:
        """How many submissions a user may make in one UTC day.

        Raises:
            ConfigError: the number is below 0 or beyond reason.
        """
        if not 0 <= limit <= _HIGHEST_LIMIT:
            raise ConfigError(f"daily limit {limit}: choose 0 to {_HIGHEST_LIMIT} submissions")
        self._set(slug, "daily_limit", limit)

    def set_show_private(self, slug: str, shown: bool) -> None:
        """Whether private scores are told, as after a deadline."""
        self._set(slug, "show_private", int(shown))

    def set_code(self, slug: str, is_code: bool) -> None:
        """Make it a code competition, or one that takes files again."""
        change = "INSERT OR IGNORE INTO code_competitions VALUES (?)"
        if not is_code:
            change = "DELETE FROM code_competitions WHERE competition = ?"
        with self._database.transaction() as db:
            db.execute(change, (slug,))

    def _set(self, slug: str, column: str, value: int) -> None:
        with self._database.transaction() as db:
            db.execute(f"UPDATE competitions SET {column} = ? WHERE slug = ?", (value, slug))

    def record(self, slug: str, files: list[ServedFile], solution: pd.DataFrame) -> None:
        """Store what was built: the served files and the solution (id, label, public)."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM files WHERE competition = ?", (slug,))
            db.execute("DELETE FROM solutions WHERE competition = ?", (slug,))
            db.executemany(
                "INSERT INTO files VALUES (?, ?, ?)", ((slug, f.name, f.size) for f in files)
            )
            db.executemany(
                "INSERT INTO solutions VALUES (?, ?, ?, ?)",
                (
                    (slug, name, label, int(public))
                    for name, label, public in zip(
                        solution["id"], solution["label"], solution["public"], strict=True
                    )
                ),
            )
            db.execute(
                "UPDATE competitions SET prepared_at = ? WHERE slug = ?", (timestamp(), slug)
            )

    def files(self, slug: str, offset: int, count: int) -> list[ServedFile]:
        """One page of the competition's files; top-level files come first."""
        with self._database.snapshot() as db:
            rows = db.execute(
                "SELECT name, size FROM files WHERE competition = ? "
                "ORDER BY instr(name, '/') > 0, name LIMIT ? OFFSET ?",
                (slug, count, offset),
            ).fetchall()
        return [ServedFile(**row) for row in rows]

    def file(self, slug: str, name: str) -> ServedFile | None:
        """One file of the competition."""
        with self._database.snapshot() as db:
            row = db.execute(
                "SELECT name, size FROM files WHERE competition = ? AND name = ?", (slug, name)
            ).fetchone()
        return ServedFile(**row) if row else None

    def solution(self, slug: str) -> pd.DataFrame:
        """The hidden labels: columns label and public (bool), indexed by id."""
        with self._database.snapshot() as db:
            rows = db.execute(
                "SELECT id, label, public FROM solutions WHERE competition = ?", (slug,)
            ).fetchall()
        table = pd.DataFrame([tuple(row) for row in rows], columns=["id", "label", "public"])
        return table.astype({"public": bool}).set_index("id")


_SELECT = (
    "SELECT *, EXISTS (SELECT * FROM code_competitions WHERE competition = slug) AS is_code "
    "FROM competitions"
)


def _contest(row: Any) -> Contest:
    return Contest(
        row["slug"],
        row["daily_limit"],
        bool(row["show_private"]),
        row["prepared_at"],
        bool(row["is_code"]),
    )
