"""push.json: how far a push has come, written whole after each of its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json, write_json
from pipeline.client.kernels import KernelVersion
from pipeline.errors import DataError

RECORD = "push.json"
GENERATED = ".generated"  # the kernel as the package made it, before owner and commit


@dataclass(frozen=True, kw_only=True, slots=True)
class PushRecord:
    """What is known of a push; None: not come that far."""

    kernel: str
    host: str
    instance: str
    commit: str | None
    forced: bool
    after: int
    """Number of the kernel's latest version before the push: one of ours is a later one."""
    session: int = 1
    """Which of the kernel's sessions it is at; each is a version of its own."""
    attached: str | None = None
    """The version whose output this session goes on from."""
    epochs: int = 0
    """How many epochs the sessions before have trained."""
    idle_sessions: int = 0
    """How many of them, the last ones, finished none."""
    version: int | None = None
    pushed_at: str | None = None
    state: str | None = None
    """The state in which the kernel ended."""
    fetched: bool = False
    submission: int | None = None
    failure: str | None = None
    """Why it can go no further."""

    @property
    def finished(self) -> bool:
        """Whether running it again has nothing to do."""
        return self.submission is not None or self.failure is not None

    @property
    def pushed(self) -> KernelVersion | None:
        """The version that was pushed."""
        return None if self.version is None else KernelVersion(self.kernel, self.version)


class PushFolder:
    """A folder submissions/<competition>/<run>/ that a push fills."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether a push of the same kernel was begun."""
        return (self.path / RECORD).exists()

    @property
    def record(self) -> PushRecord:
        """The record as it is on disk now: another command may have gone on meanwhile.

        Raises:
            DataError: it is damaged.
        """
        values = read_json(self.path / RECORD)
        known = {field.name for field in fields(PushRecord)}
        try:
            return PushRecord(**{name: value for name, value in values.items() if name in known})
        except (TypeError, AttributeError) as err:
            raise DataError(
                f"{self.path / RECORD} is damaged ({err}); delete it and rerun: the host is asked "
                "for the version before anything is pushed"
            ) from err

    @property
    def marker(self) -> str:
        """The text by which the host's versions are known as this push's session."""
        session = self.record.session
        return self.path.name if session == 1 else f"{self.path.name}-session-{session}"

    def begin(self, record: PushRecord) -> None:
        """Write the first record; it replaces that of a finished push."""
        write_json(self.path / RECORD, asdict(record))

    def update(self, **values: Any) -> PushRecord:
        """Note one more step."""
        record = replace(self.record, **values)
        write_json(self.path / RECORD, asdict(record))
        return record
