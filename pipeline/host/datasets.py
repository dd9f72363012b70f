"""Datasets: files that users upload and attach to their kernels."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.artifacts import storage_errors
from pipeline.host.accounts import User
from pipeline.host.database import Database, timestamp
from pipeline.host.submissions import UploadError

# As long as the client remembers an upload that it did not finish.
_UPLOAD_LIFETIME = timedelta(days=6)


@dataclass(frozen=True, slots=True)
class DatasetUpload:
    """A promised file: `size` bytes, to be stored as `blob`."""

    token: str
    name: str
    size: int
    blob: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """One version of a dataset; `ref` is unique on the host."""

    ref: int
    dataset: int
    owner: str
    slug: str
    title: str
    is_private: bool
    number: int
    created_at: str


class Datasets:
    """The datasets of a host. Uploaded files wait in `blobs`; versions are folders in `folder`."""

    def __init__(self, database: Database, blobs: Path, folder: Path) -> None:
        self._database = database
        self._blobs = blobs
        self._folder = folder

    def blob(self, name: str) -> Path:
        """Where the uploaded file called `name` waits."""
        return self._blobs / name

    def files(self, ref: int) -> Path:
        """The folder of a version's files."""
        return self._folder / str(ref)

    def open_upload(self, user: User, name: str, size: int) -> DatasetUpload:
        """Promise an upload."""
        upload = DatasetUpload(secrets.token_urlsafe(32), name, size, secrets.token_hex(16))
        expires = timestamp(datetime.now(UTC) + _UPLOAD_LIFETIME)
        with self._database.transaction() as db:
            expired = db.execute(
                "DELETE FROM dataset_uploads WHERE expires_at < ? RETURNING blob", (timestamp(),)
            ).fetchall()
            db.execute(
                "INSERT INTO dataset_uploads VALUES (?, ?, ?, ?, ?, ?)",
                (upload.token, user.id, name, size, upload.blob, expires),
            )
        for row in expired:
            self.blob(row["blob"]).unlink(missing_ok=True)
        return upload

    def upload(self, token: str) -> DatasetUpload:
        """The upload of that token.

        Raises:
            UploadError: the token is unknown, expired or used.
        """
        with self._database.snapshot() as db:
            row = db.execute(
                "SELECT token, name, size, blob FROM dataset_uploads "
                "WHERE token = ? AND expires_at >= ?",
                (token, timestamp()),
            ).fetchone()
        if row is None:
            raise UploadError("this upload link is unknown, expired or already used")
        return DatasetUpload(**row)

    def create(
        self, user: User, slug: str, title: str, *, is_private: bool, tokens: list[str]
    ) -> DatasetVersion:
        """Make the uploaded files a new version, of a new dataset where there is none.

        Raises:
            UploadError: a file was never received, or two have one name.
            StorageError: the disk is full, or the folder is read-only.
        """
        uploads = [self.upload(token) for token in tokens]
        missing = [upload.name for upload in uploads if not self.blob(upload.blob).is_file()]
        if missing or not uploads or len({upload.name for upload in uploads}) < len(uploads):
            raise UploadError(f"no files, or some twice, or never received: {missing}")
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets (user, slug, title, is_private) "
                "VALUES (?, ?, ?, ?)",
                (user.id, slug, title, is_private),
            )
            ref = db.execute(
                "INSERT INTO dataset_versions (dataset, number, created_at) "
                "SELECT id, (SELECT count(*) + 1 FROM dataset_versions WHERE dataset = id), ? "
                "FROM datasets WHERE user = ? AND slug = ?",
                (timestamp(), user.id, slug),
            ).lastrowid
            db.executemany(
                "DELETE FROM dataset_uploads WHERE token = ?", ((token,) for token in tokens)
            )
            row = db.execute(f"{_SELECT} WHERE ref = ?", (ref,)).fetchone()
            self._gather(uploads, self.files(row["ref"]))
        return _version(row)

    def _gather(self, uploads: list[DatasetUpload], folder: Path) -> None:
        partial = folder.with_name(f".{folder.name}.partial")
        with storage_errors(folder):
            # What a host left that was killed before the transaction's end.
            for left_over in (partial, folder):
                shutil.rmtree(left_over, ignore_errors=True)
            partial.mkdir(mode=0o700)
            for upload in uploads:
                self.blob(upload.blob).rename(partial / upload.name)
            partial.rename(folder)

    def find(
        self, viewer: str, owner: str, slug: str, number: int | None = None
    ) -> DatasetVersion | None:
        """A version (default: the newest) of a dataset that `viewer` may see."""
        with self._database.snapshot() as db:
            row = db.execute(
                f"{_SELECT} WHERE users.name = ? AND slug = ? AND number = coalesce(?, number) "
                "AND (users.name = ? OR NOT is_private) ORDER BY ref DESC LIMIT 1",
                (owner, slug, number, viewer),
            ).fetchone()
        return _version(row) if row else None


_SELECT = (
    "SELECT ref, dataset, users.name AS owner, slug, title, is_private, number, created_at "
    "FROM dataset_versions JOIN datasets ON datasets.id = dataset "
    "JOIN users ON users.id = datasets.user"
)


def _version(row: Any) -> DatasetVersion:
    values = dict(row)
    return DatasetVersion(is_private=bool(values.pop("is_private")), **values)
