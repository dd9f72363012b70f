"""The host's SQLite database: its schema and its transactions."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.artifacts import storage_errors
from pipeline.errors import HostError, PipelineError, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instance (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS competitions (
    slug TEXT PRIMARY KEY,
    daily_limit INTEGER NOT NULL DEFAULT 20,
    show_private INTEGER NOT NULL DEFAULT 1,
    prepared_at TEXT
);
CREATE TABLE IF NOT EXISTS accepted_rules (
    user INTEGER NOT NULL REFERENCES users(id),
    competition TEXT NOT NULL REFERENCES competitions(slug),
    PRIMARY KEY (user, competition)
);
CREATE TABLE IF NOT EXISTS files (
    competition TEXT NOT NULL REFERENCES competitions(slug),
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (competition, name)
);
CREATE TABLE IF NOT EXISTS solutions (
    competition TEXT NOT NULL REFERENCES competitions(slug),
    id TEXT NOT NULL,
    label TEXT NOT NULL,
    public INTEGER NOT NULL,
    PRIMARY KEY (competition, id)
);
CREATE TABLE IF NOT EXISTS downloads (
    token TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS uploads (
    token TEXT PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users(id),
    competition TEXT NOT NULL REFERENCES competitions(slug),
    file_name TEXT NOT NULL,
    size INTEGER NOT NULL,
    blob TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'received', 'submitted')),
    expires_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS submissions (
    ref INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users(id),
    competition TEXT NOT NULL REFERENCES competitions(slug),
    file_name TEXT NOT NULL,
    description TEXT NOT NULL,
    blob TEXT NOT NULL UNIQUE,
    submitted_at TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'COMPLETE', 'ERROR')),
    public_score REAL,
    private_score REAL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS submissions_by_user ON submissions (competition, user, submitted_at);
CREATE TABLE IF NOT EXISTS kernels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users(id),
    slug TEXT NOT NULL,
    title TEXT NOT NULL,
    UNIQUE (user, slug)
);
CREATE TABLE IF NOT EXISTS kernel_versions (
    ref INTEGER PRIMARY KEY AUTOINCREMENT,
    kernel INTEGER NOT NULL REFERENCES kernels(id),
    number INTEGER NOT NULL,
    settings TEXT NOT NULL,
    source TEXT NOT NULL,
    uses_gpu INTEGER NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('NEW_SCRIPT', 'QUEUED', 'RUNNING', 'COMPLETE', 'ERROR')),
    failure TEXT NOT NULL DEFAULT '',
    saved_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    UNIQUE (kernel, number)
);
CREATE TABLE IF NOT EXISTS datasets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users(id),
    slug TEXT NOT NULL,
    title TEXT NOT NULL,
    is_private INTEGER NOT NULL,
    UNIQUE (user, slug)
);
CREATE TABLE IF NOT EXISTS dataset_versions (
    ref INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES datasets(id),
    number INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (dataset, number)
);
CREATE TABLE IF NOT EXISTS dataset_uploads (
    token TEXT PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users(id),
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    blob TEXT NOT NULL UNIQUE,
    expires_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS code_competitions (
    competition TEXT PRIMARY KEY REFERENCES competitions(slug)
);
CREATE TABLE IF NOT EXISTS reruns (
    submission INTEGER PRIMARY KEY REFERENCES submissions(ref),
    version INTEGER NOT NULL REFERENCES kernel_versions(ref)
);
CREATE TABLE IF NOT EXISTS gpu_quotas (
    user INTEGER PRIMARY KEY REFERENCES users(id),
    hours REAL NOT NULL
);
"""
_SECONDS_TO_WAIT_FOR_A_WRITER = 30
_PRIMARY = 0xFF  # of an error code, whose other bits say more


def timestamp(moment: datetime | None = None) -> str:
    """A UTC moment (default: now) as ISO 8601 with milliseconds; texts sort as moments do."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Database:
    """Opens one connection per transaction, so that any thread or process may use it."""

    def __init__(self, path: Path) -> None:
        """Create the tables and the instance id if they are missing.

        Raises:
            HostError: the file is damaged, or another program keeps it locked.
            StorageError: the disk is full, or the folder is read-only.
        """
        self._path = path
        with storage_errors(path), self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO instance SELECT ? WHERE NOT EXISTS (SELECT * FROM instance)",
                (secrets.token_hex(8),),
            )

    @property
    def instance(self) -> str:
        """A random id made with the database."""
        with self.snapshot() as connection:
            return str(connection.execute("SELECT id FROM instance").fetchone()["id"])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start: all of it happens, or none."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                # A full disk has rolled back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """One consistent view for reading; never waits for a writer."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(
            self._path, timeout=_SECONDS_TO_WAIT_FOR_A_WRITER, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        try:
            yield connection
        except sqlite3.DatabaseError as err:
            told = _told(err, self._path)
            if told is None:
                raise
            raise told from err
        finally:
            connection.close()


def _told(err: sqlite3.DatabaseError, path: Path) -> PipelineError | None:
    """What whoever runs the host can mend, in one line; None: anything else."""
    match getattr(err, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY:
        case sqlite3.SQLITE_FULL:
            return StorageError(f"disk full while writing {path}; free some space and rerun")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return StorageError(
                f"cannot write {path}: {err}; make {path.parent} writable and rerun"
            )
        case sqlite3.SQLITE_BUSY:
            return HostError(f"another program keeps {path} locked; end that one and rerun")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return HostError(
                f"{path} is damaged ({err}); move {path.parent} away and rerun: a new one begins, "
                "without the users and submissions of this one"
            )
    return None
