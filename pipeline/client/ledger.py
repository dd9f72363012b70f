"""The ledger of uploads: one JSON object a line, whole or absent.

A line holds all that is known of one upload. A score that arrives later is a further line of the
same upload; of several lines the last counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from pipeline.artifacts import write_whole
from pipeline.client.client import Status
from pipeline.errors import DataError
from pipeline.reading import read_errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """One upload, as known so far. Scores are None until told, for ever where they never are."""

    competition: str
    run: str
    file_sha256: str
    predictions_sha256: str
    cv_mean: float | None
    cv_std: float | None
    public_score: float | None
    private_score: float | None
    host: str
    instance: str
    ref: int
    commit: str | None
    submitted_at: str
    status: Status
    error: str | None = None
    kernel: str | None = None  # owner/slug/version, where a kernel made the file


class Ledger:
    """The ledger file at `path`, which need not exist yet. One command writes it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def uploads(self) -> list[Upload]:
        """Every upload with the latest that is known of it, in the order of the first lines.

        Raises:
            DataError: a line before the last is damaged.
            StorageError: the file may not be read.
        """
        merged: dict[tuple[str, int], Upload] = {}
        for number, line in enumerate(self._whole_lines(), start=1):
            upload = self._parse(line, number)
            merged[upload.instance, upload.ref] = upload
        return list(merged.values())

    def append(self, upload: Upload) -> None:
        """Add a line; a last line torn by a crash of the machine is removed.

        Raises:
            StorageError: the disk is full or the file cannot be written; the ledger is unchanged.
        """
        lines = [*self._whole_lines(), json.dumps(asdict(upload)).encode()]
        write_whole(self._path, b"".join(line + b"\n" for line in lines))

    def _whole_lines(self) -> list[bytes]:
        with read_errors(self._path):
            content = self._path.read_bytes() if self._path.exists() else b""
        *lines, rest = content.split(b"\n")
        # After the last newline comes nothing, or a line that was cut, at best just its newline.
        return [*lines, rest] if _is_object(rest) else lines

    def _parse(self, line: bytes, number: int) -> Upload:
        known = {field.name for field in fields(Upload)}
        try:
            values = json.loads(line)
            return Upload(**{name: value for name, value in values.items() if name in known})
        except (ValueError, AttributeError, TypeError) as err:
            raise DataError(
                f"{self._path}: line {number} is damaged ({err}); repair or remove that line"
            ) from err


def find_upload(
    uploads: list[Upload], *, instance: str, file_sha256: str, predictions_sha256: str
) -> Upload | None:
    """The last upload to the host `instance` of these bytes, or else of these predictions."""
    here = [upload for upload in reversed(uploads) if upload.instance == instance]
    same_bytes = [upload for upload in here if upload.file_sha256 == file_sha256]
    same_predictions = [
        upload for upload in here if upload.predictions_sha256 == predictions_sha256
    ]
    return next(iter(same_bytes + same_predictions), None)


def now() -> str:
    """This moment in UTC as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
