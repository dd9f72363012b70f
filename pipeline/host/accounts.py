"""Users, their keys and the rules they accepted. Only hashes of keys are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.host.database import Database

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,48}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class User:
    """One participant; every user is a team of one."""

    id: int
    name: str


class Accounts:
    """The users of a host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str) -> str:
        """Create a user who accepted every competition's rules; return the new key.

        Raises:
            ConfigError: the name is taken or malformed.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"user name {name!r}: use 3 to 50 lower-case letters, digits and inner hyphens"
            )
        if self.named(name):
            raise ConfigError(f"user {name!r} exists already; choose another name")
        key = new_key()
        self.ensure(name, key)
        return key

    def ensure(self, name: str, key: str) -> None:
        """Create the user if it is missing, and let `key` be its key."""
        with self._database.transaction() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO users (name, key_hash) VALUES (?, ?)", (name, _hash(key))
            ).rowcount
            db.execute("UPDATE users SET key_hash = ? WHERE name = ?", (_hash(key), name))
            if added:
                db.execute(
                    "INSERT INTO accepted_rules "
                    "SELECT users.id, slug FROM users, competitions WHERE name = ?",
                    (name,),
                )

    def named(self, name: str) -> User | None:
        """The user of that name."""
        with self._database.snapshot() as db:
            row = db.execute("SELECT id, name FROM users WHERE name = ?", (name,)).fetchone()
        return User(**row) if row else None

    def with_key(self, key: str) -> User | None:
        """The user who owns `key`; takes equally long for every wrong key."""
        with self._database.snapshot() as db:
            rows = db.execute("SELECT id, name, key_hash FROM users").fetchall()
        wanted = _hash(key)
        owners = [row for row in rows if hmac.compare_digest(row["key_hash"], wanted)]
        return User(owners[0]["id"], owners[0]["name"]) if owners else None

    def accepted_rules(self, user: User, competition: str) -> bool:
        """Whether the user accepted the competition's rules."""
        with self._database.snapshot() as db:
            row = db.execute(
                "SELECT 1 FROM accepted_rules WHERE user = ? AND competition = ?",
                (user.id, competition),
            ).fetchone()
        return row is not None

    def set_rules(self, user: User, competition: str, *, accepted: bool) -> None:
        """Accept the competition's rules for the user, or take that back."""
        statement = (
            "INSERT OR IGNORE INTO accepted_rules (user, competition) VALUES (?, ?)"
            if accepted
            else "DELETE FROM accepted_rules WHERE user = ? AND competition = ?"
        )
        with self._database.transaction() as db:
            db.execute(statement, (user.id, competition))


def new_key() -> str:
    """128 random bits in hex, as Kaggle's own keys are."""
    return secrets.token_hex(16)


def _hash(key: str) -> str:
    # Keys are random, not chosen by people, so a plain fast hash cannot be searched.
    return hashlib.sha256(key.encode()).hexdigest()
