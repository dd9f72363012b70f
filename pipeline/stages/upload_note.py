"""The note that an upload was begun: whoever finds it looks at the host's list before anything."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import storage_errors, write_json
from pipeline.client.ledger import now
from pipeline.workspace import Workspace


class UploadNote:
    """Lies from before an upload until the ledger has its line; one per competition and host.

    It lies beside the ledger and is written in the same way, so where the ledger cannot be
    written, the note cannot either, and nothing is uploaded.
    """

    def __init__(self, workspace: Workspace, competition: str, instance: str) -> None:
        self.path: Path = workspace.ledger.with_name(f".upload-{competition}-{instance}.json")

    def exists(self) -> bool:
        """Whether an upload was begun that the ledger may not have."""
        return self.path.exists()

    def write(self, description: str) -> None:
        """Note an upload before it begins.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        write_json(self.path, {"description": description, "begun_at": now()})

    def remove(self) -> None:
        """The ledger has every upload.

        Raises:
            StorageError: the folder cannot be written.
        """
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)
