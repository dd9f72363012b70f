"""The uploads chosen as final submissions: a small file beside the ledger, replaced whole.

The ledger stays what it is, a history that only grows: a choice may change as often as one likes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_json
from pipeline.client.ledger import Upload
from pipeline.errors import DataError
from pipeline.reading import read_errors


class Selection:
    """The file at `path`, which need not exist yet. One command writes it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def place_of(self, upload: Upload) -> int | None:
        """1 for the first choice, 2 for the second; None: not chosen.

        Raises:
            DataError: the file is damaged.
            StorageError: the file may not be read.
        """
        refs = self._read().get(_key(upload.competition, upload.instance), [])
        return refs.index(upload.ref) + 1 if upload.ref in refs else None

    def choose(self, chosen: Sequence[Upload]) -> None:
        """Put these uploads of one competition and host in place of those chosen before.

        Raises:
            StorageError: the disk is full or the file cannot be written; it is unchanged.
        """
        key = _key(chosen[0].competition, chosen[0].instance)
        write_json(self._path, {**self._read(), key: [upload.ref for upload in chosen]})

    def _read(self) -> dict[str, Any]:
        with read_errors(self._path):
            if not self._path.exists():
                return {}
            text = self._path.read_text(encoding="utf-8")
        try:
            values = json.loads(text)
            if all(isinstance(refs, list) for refs in values.values()):
                return dict(values)
        except (ValueError, AttributeError) as err:
            raise DataError(f"{self._path} is damaged ({err}); delete it and select again") from err
        raise DataError(f"{self._path} is damaged; delete it and select again")


def _key(competition: str, instance: str) -> str:
    return f"{competition} on {instance}"
