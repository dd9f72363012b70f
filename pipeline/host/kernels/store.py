"""Kernels, their versions, and the time their sessions took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from pipeline.host.accounts import User
from pipeline.host.database import Database, timestamp
from pipeline.host.wire import Message

DEFAULT_GPU_HOURS = 30.0
_SATURDAY = 5


class Settings(Message):
    """A version's metadata, by the names of the wire. What is not told here changes nothing."""

    kernel_type: Literal["script", "notebook"]
    language: Literal["python"]
    is_private: bool = True
    enable_gpu: bool = False
    enable_tpu: bool = False
    enable_internet: bool = False
    machine_shape: str | None = None
    docker_image: str | None = None
    docker_image_pinning_type: str | None = None
    session_timeout_seconds: int | None = Field(None, gt=0)
    category_ids: tuple[str, ...] = ()
    competition_data_sources: tuple[str, ...] = ()
    dataset_data_sources: tuple[str, ...] = ()
    kernel_data_sources: tuple[str, ...] = ()
    model_data_sources: tuple[str, ...] = ()

    @property
    def uses_gpu(self) -> bool:
        """Whether the session counts against the GPU quota."""
        return self.enable_gpu or (self.machine_shape or "").lower().startswith("nvidia")

    @property
    def code_name(self) -> str:
        """Name of the code file."""
        return "notebook.ipynb" if self.kernel_type == "notebook" else "script.py"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version of a kernel. Moments are None until they came; `ref` is unique on the host."""

    ref: int
    kernel: int
    owner: str
    slug: str
    title: str
    number: int
    settings: Settings
    source: str
    status: str
    failure: str
    saved_at: str
    started_at: str | None
    ended_at: str | None

    @property
    def name(self) -> str:
        """`owner/slug`."""
        return f"{self.owner}/{self.slug}"


@dataclass(frozen=True, slots=True)
class Quota:
    """GPU time of one user and week."""

    used: timedelta
    allowed: timedelta
    refreshes_at: datetime

    @property
    def is_used_up(self) -> bool:
        """Whether no further GPU session may start."""
        return self.used >= self.allowed


class Kernels:
    """The kernels of a host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self, user: User, slug: str, title: str, settings: Settings, source: str, *, run: bool
    ) -> Version:
        """Store a new version, of a new kernel where the user has none of that name."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO kernels (user, slug, title) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET title = excluded.title",
                (user.id, slug, title),
            )
            ref = db.execute(
                "INSERT INTO kernel_versions "
                "(kernel, number, settings, source, uses_gpu, status, saved_at) "
                "SELECT id, (SELECT count(*) + 1 FROM kernel_versions WHERE kernel = id),"
                " ?, ?, ?, ?, ? FROM kernels WHERE user = ? AND slug = ?",
                (
                    settings.model_dump_json(by_alias=True, include=set(Settings.model_fields)),
                    source,
                    settings.uses_gpu,
                    "QUEUED" if run else "NEW_SCRIPT",
                    timestamp(),
                    user.id,
                    slug,
                ),
            ).lastrowid
            row = db.execute(f"{_SELECT} WHERE ref = ?", (ref,)).fetchone()
        return _version(row)

    def find(self, viewer: str, owner: str, slug: str, number: int | None = None) -> Version | None:
        """A version (default: the newest) of a kernel that `viewer` may see."""
        newest = self._first("owner = ? AND slug = ?", owner, slug)
        # Whether a kernel is private is what its newest version says.
        if newest is None or not _visible(newest, viewer):
            return None
        if number is None:
            return newest
        return self._first("owner = ? AND slug = ? AND number = ?", owner, slug, number)

    def newest_complete(
        self, viewer: str, owner: str, slug: str, number: int | None = None
    ) -> Version | None:
        """The newest version with an output, or version `number` if it has one."""
        if self.find(viewer, owner, slug) is None:
            return None
        return self._first(
            "owner = ? AND slug = ? AND status = 'COMPLETE' AND number = coalesce(?, number)",
            owner,
            slug,
            number,
        )

    def get(self, ref: int) -> Version:
        """The version with that ref, which exists."""
        return self._select("ref = ?", ref)[0]

    def with_id(self, user: User, kernel: int) -> Version | None:
        """The newest version of the user's own kernel with that id."""
        return self._first("owner = ? AND kernel = ?", user.name, kernel)

    def visible(self, viewer: str) -> list[Version]:
        """The newest version of every kernel that `viewer` may see, the newest first."""
        newest = self._select(
            "ref IN (SELECT max(ref) FROM kernel_versions GROUP BY kernel) ORDER BY ref DESC"
        )
        return [version for version in newest if _visible(version, viewer)]

    def claim(self) -> Version | None:
        """The version that waits longest, which is RUNNING from now on."""
        with self._database.transaction() as db:
            claimed = db.execute(
                "UPDATE kernel_versions SET status = 'RUNNING', started_at = ? WHERE ref = "
                "(SELECT min(ref) FROM kernel_versions WHERE status = 'QUEUED') RETURNING ref",
                (timestamp(),),
            ).fetchone()
        return self.get(claimed["ref"]) if claimed else None

    def finish(self, version: Version, failure: str) -> None:
        """Record the end of a session; an empty `failure` means that it is complete."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE kernel_versions SET status = ?, failure = ?, ended_at = ? WHERE ref = ?",
                ("ERROR" if failure else "COMPLETE", failure, timestamp(), version.ref),
            )

    def requeue_interrupted(self) -> list[int]:
        """Queue again what a stopped host left RUNNING; its time so far is not counted."""
        with self._database.transaction() as db:
            rows = db.execute(
                "UPDATE kernel_versions SET status = 'QUEUED', started_at = NULL "
                "WHERE status = 'RUNNING' RETURNING ref"
            ).fetchall()
        return [row[0] for row in rows]

    def set_gpu_hours(self, user: User, hours: float) -> None:
        """How many hours of GPU sessions the user may run in a week."""
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO gpu_quotas VALUES (?, ?)", (user.id, hours))

    def quota(self, user: User) -> Quota:
        """The user's GPU time in this week, which began on Saturday at midnight UTC."""
        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        week_start = midnight - timedelta(days=(midnight.weekday() - _SATURDAY) % 7)
        with self._database.snapshot() as db:
            allowed = db.execute(
                "SELECT hours FROM gpu_quotas WHERE user = ?", (user.id,)
            ).fetchone()
            seconds = db.execute(
                "SELECT sum((julianday(coalesce(ended_at, :now)) - "
                "julianday(max(started_at, :start))) * 86400) "
                "FROM kernel_versions JOIN kernels ON kernels.id = kernel "
                "WHERE user = :user AND uses_gpu AND coalesce(ended_at, :now) > :start",
                {"now": timestamp(now), "start": timestamp(week_start), "user": user.id},
            ).fetchone()[0]
        return Quota(
            timedelta(seconds=seconds or 0),
            timedelta(hours=allowed["hours"] if allowed else DEFAULT_GPU_HOURS),
            week_start + timedelta(days=7),
        )

    def _first(self, condition: str, *values: Any) -> Version | None:
        """The newest version of which the condition holds."""
        found = self._select(f"{condition} ORDER BY ref DESC LIMIT 1", *values)
        return found[0] if found else None

    def _select(self, condition: str, *values: Any) -> list[Version]:
        with self._database.snapshot() as db:
            rows = db.execute(f"{_SELECT} WHERE {condition}", values).fetchall()
        return [_version(row) for row in rows]


_SELECT = (
    "SELECT * FROM (SELECT ref, kernel, users.name AS owner, slug, title, number, settings, "
    "source, status, failure, saved_at, started_at, ended_at FROM kernel_versions "
    "JOIN kernels ON kernels.id = kernel JOIN users ON users.id = user)"
)


def _version(row: Any) -> Version:
    values = dict(row)
    return Version(settings=Settings.model_validate_json(values.pop("settings")), **values)


def _visible(version: Version, viewer: str) -> bool:
    return version.owner == viewer or not version.settings.is_private
