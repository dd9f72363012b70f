"""Uploads, submissions, daily limits and the leaderboard."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.artifacts import storage_errors
from pipeline.host.accounts import User
from pipeline.host.contests import Contest
from pipeline.host.database import Database, timestamp
from pipeline.host.kernels.outputs import OutputFile
from pipeline.host.scoring import Verdict

UPLOAD_LIFETIME = timedelta(hours=1)
MAX_SUBMISSION_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A promised file: `size` bytes, to be stored as `blob`."""

    token: str
    file_name: str
    size: int
    blob: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One submission. Scores are None until it is COMPLETE, and stay so on ERROR."""

    ref: int
    user: str
    competition: str
    file_name: str
    description: str
    blob: str
    submitted_at: str
    status: str
    public_score: float | None
    private_score: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Usage:
    """How many submissions a user made, and may still make today (UTC)."""

    today: int
    total: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Standing:
    """One leaderboard line: a team's best public score and when it was first reached."""

    team_id: int
    team: str
    score: float
    submitted_at: str


class LimitReachedError(Exception):
    """The user's submissions of today are used up."""


class UploadError(Exception):
    """The upload token is unknown, expired, used, or its file was never received."""


class Submissions:
    """The submissions of a host; files lie in the `blobs` folder."""

    def __init__(self, database: Database, blobs: Path) -> None:
        self._database = database
        self._blobs = blobs

    def blob(self, name: str) -> Path:
        """Where the file called `name` is stored."""
        return self._blobs / name

    def open_upload(self, user: User, competition: str, file_name: str, size: int) -> Upload:
        """Promise an upload; its token works once, for an hour."""
        self._discard_expired()
        upload = Upload(
            token=secrets.token_urlsafe(32),
            file_name=file_name,
            size=size,
            blob=secrets.token_hex(16),
        )
        expires = timestamp(datetime.now(UTC) + UPLOAD_LIFETIME)
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO uploads (token, user, competition, file_name, size, blob, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (upload.token, user.id, competition, file_name, size, upload.blob, expires),
            )
        return upload

    def _discard_expired(self) -> None:
        with self._database.transaction() as db:
            expired = db.execute(
                "DELETE FROM uploads WHERE state != 'submitted' AND expires_at < ? RETURNING blob",
                (timestamp(),),
            ).fetchall()
        for row in expired:
            self.blob(row["blob"]).unlink(missing_ok=True)

    def open_upload_of(self, token: str) -> Upload:
        """The upload that still waits for its file.

        Raises:
            UploadError: the token is unknown, expired or used.
        """
        with self._database.snapshot() as db:
            row = db.execute(
                "SELECT token, file_name, size, blob FROM uploads "
                "WHERE token = ? AND state = 'open' AND expires_at >= ?",
                (token, timestamp()),
            ).fetchone()
        if row is None:
            raise UploadError("this upload link is unknown, expired or already used; submit again")
        return Upload(**row)

    def receive(self, upload: Upload, received: Path) -> None:
        """Keep the finished file `received` as the upload's blob, and close the upload.

        Raises:
            UploadError: another request finished this upload first.
        """
        with self._database.transaction() as db:
            closed = db.execute(
                "UPDATE uploads SET state = 'received' WHERE token = ? AND state = 'open'",
                (upload.token,),
            ).rowcount
            if not closed:
                raise UploadError("this upload link was used already; submit again")
            received.replace(self.blob(upload.blob))

    def submit(self, user: User, contest: Contest, token: str, description: str) -> int:
        """Turn a received upload into a submission that waits for its score; return its ref.

        Raises:
            LimitReachedError: the user has no submission left today.
            UploadError: the token is not a received upload of this user and competition.
        """
        with self._database.transaction() as db:
            _require_one_left(db, user, contest)
            row = db.execute(
                "UPDATE uploads SET state = 'submitted' WHERE token = ? AND user = ? "
                "AND competition = ? AND state = 'received' RETURNING file_name, blob",
                (token, user.id, contest.slug),
            ).fetchone()
            if row is None:
                raise UploadError(
                    "the uploaded file is unknown, expired or already submitted; submit again"
                )
            return _insert(db, user, contest, row["file_name"], row["blob"], description)

    def submit_copy(
        self, user: User, contest: Contest, file: OutputFile, description: str, version: int
    ) -> int:
        """Submit a copy of a file that a kernel's version left; return the submission's ref.

        A code competition has the version run again, and scores what it writes then.

        Raises:
            LimitReachedError: the user has no submission left today.
            StorageError: the disk is full, or the folder is read-only.
        """
        blob = secrets.token_hex(16)
        with storage_errors(self.blob(blob)), self._database.transaction() as db:
            _require_one_left(db, user, contest)
            shutil.copyfile(file.path, self.blob(blob))
            ref = _insert(db, user, contest, file.name, blob, description)
            if contest.is_code:
                db.execute("INSERT INTO reruns VALUES (?, ?)", (ref, version))
            return ref

    def usage(self, user: User, contest: Contest) -> Usage:
        """The user's submissions so far; failed ones do not count against the limit."""
        with self._database.snapshot() as db:
            return _usage(db, user, contest)

    def pending(self) -> list[Submission]:
        """Every submission whose file waits for its score."""
        with self._database.snapshot() as db:
            rows = db.execute(
                f"{_SELECT} WHERE status = 'PENDING' "
                "AND ref NOT IN (SELECT submission FROM reruns) ORDER BY ref"
            ).fetchall()
        return [_submission(row) for row in rows]

    def next_rerun(self) -> tuple[Submission, int] | None:
        """The submission that waits longest for its kernel to run again, and the version's ref."""
        with self._database.snapshot() as db:
            rerun = db.execute(
                "SELECT submission, version FROM reruns JOIN submissions ON ref = submission "
                "WHERE status = 'PENDING' ORDER BY ref"
            ).fetchone()
            if rerun is None:
                return None
            row = db.execute(f"{_SELECT} WHERE ref = ?", (rerun["submission"],)).fetchone()
        return _submission(row), int(rerun["version"])

    def finish(self, ref: int, verdict: Verdict) -> None:
        """Record the verdict on a pending submission."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE submissions SET status = ?, public_score = ?, private_score = ?, error = ? "
                "WHERE ref = ? AND status = 'PENDING'",
                (
                    "ERROR" if verdict.error else "COMPLETE",
                    verdict.public,
                    verdict.private,
                    verdict.error,
                    ref,
                ),
            )

    def get(self, user: User, ref: int) -> Submission | None:
        """The user's own submission `ref`; None for anyone else's."""
        with self._database.snapshot() as db:
            row = db.execute(f"{_SELECT} WHERE ref = ? AND user = ?", (ref, user.id)).fetchone()
        return _submission(row) if row else None

    def of_user(self, user: User, competition: str) -> list[Submission]:
        """The user's submissions to a competition, newest first."""
        with self._database.snapshot() as db:
            rows = db.execute(
                f"{_SELECT} WHERE user = ? AND competition = ? ORDER BY ref DESC",
                (user.id, competition),
            ).fetchall()
        return [_submission(row) for row in rows]

    def leaderboard(self, competition: str, *, greater_is_better: bool) -> list[Standing]:
        """Every team's best public score, best first; the earlier one wins a tie."""
        direction = "DESC" if greater_is_better else "ASC"
        with self._database.snapshot() as db:
            rows = db.execute(
                "SELECT user, name, public_score, submitted_at FROM ("
                "  SELECT *, row_number() OVER ("
                f"    PARTITION BY user ORDER BY public_score {direction}, ref) AS place"
                "  FROM submissions WHERE competition = ? AND status = 'COMPLETE'"
                ") JOIN users ON users.id = user WHERE place = 1 "
                f"ORDER BY public_score {direction}, submitted_at",
                (competition,),
            ).fetchall()
        return [Standing(*row) for row in rows]


_SELECT = (
    "SELECT ref, name, competition, file_name, description, blob, submitted_at, status, "
    "public_score, private_score, error FROM submissions JOIN users ON users.id = user"
)


def _submission(row: Any) -> Submission:
    values = dict(row)
    return Submission(user=values.pop("name"), **values)


def _require_one_left(db: sqlite3.Connection, user: User, contest: Contest) -> None:
    if _usage(db, user, contest).remaining == 0:
        raise LimitReachedError


def _insert(
    db: sqlite3.Connection, user: User, contest: Contest, name: str, blob: str, description: str
) -> int:
    cursor = db.execute(
        "INSERT INTO submissions (user, competition, file_name, description, blob, submitted_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (user.id, contest.slug, name, description, blob, timestamp()),
    )
    return int(cursor.lastrowid or 0)


def _usage(db: sqlite3.Connection, user: User, contest: Contest) -> Usage:
    midnight = timestamp()[:10]
    row = db.execute(
        "SELECT count(*) AS total, "
        "coalesce(sum(submitted_at >= ? AND status != 'ERROR'), 0) AS today "
        "FROM submissions WHERE user = ? AND competition = ?",
        (midnight, user.id, contest.slug),
    ).fetchone()
    return Usage(row["today"], row["total"], max(0, contest.daily_limit - row["today"]))
