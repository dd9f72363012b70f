"""Where the host keeps its state: a folder outside every checkout."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pipeline.artifacts import storage_errors

STATE_VARIABLE = "PIPELINE_HOST_STATE"


def default_state() -> Path:
    """The folder named by PIPELINE_HOST_STATE, or one under the user's data folder."""
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named)
    return Path(platformdirs.user_data_dir("kaggle-image-pipeline")) / "host"


@dataclass(frozen=True, slots=True)
class State:
    """The files of one host instance."""

    folder: Path

    def create(self) -> None:
        """Make the folders, readable by their owner alone.

        Raises:
            StorageError: the disk is full, or the folder is read-only.
        """
        with storage_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (
                self.blobs,
                self.sources,
                self.home,
                self.datasets,
                self.kernels,
                self.sessions,
            ):
                folder.mkdir(mode=0o700, exist_ok=True)

    def remove_partials(self) -> None:
        """Remove what a killed server left behind; call it while no server runs."""
        for left_over in self._partials():
            if left_over.is_dir():
                shutil.rmtree(left_over)
            else:
                left_over.unlink()

    def _partials(self) -> list[Path]:
        # What kernels left in their outputs may have such names too, and stays.
        built = (self.blobs, self.sources, self.datasets, self.folder / "competitions")
        inside = (path for folder in built for path in folder.rglob(".*.partial"))
        return [*self.folder.glob(".*.partial"), *inside]

    @property
    def database(self) -> Path:
        """Users, competitions, hidden labels, submissions."""
        return self.folder / "host.sqlite3"

    @property
    def blobs(self) -> Path:
        """Uploaded submission files."""
        return self.folder / "blobs"

    @property
    def sources(self) -> Path:
        """Archives the competitions are built from, fetched once."""
        return self.folder / "sources"

    @property
    def home(self) -> Path:
        """An empty home folder, which hides the real credentials from the client."""
        return self.folder / "home"

    @property
    def client_homes(self) -> Path:
        """A home folder for every client that runs, gone with it."""
        return self.folder / "client-homes"

    @property
    def datasets(self) -> Path:
        """A folder for every version of a dataset, by its ref."""
        return self.folder / "datasets"

    @property
    def kernels(self) -> Path:
        """Logs and outputs of kernel versions."""
        return self.folder / "kernels"

    @property
    def sessions(self) -> Path:
        """The scratch folders of running kernels, and what a killed server left of them."""
        return self.folder / "sessions"

    @property
    def credentials(self) -> Path:
        """Name and key of the local user, for that user's eyes only."""
        return self.folder / "credentials.json"

    @property
    def instance(self) -> Path:
        """The random id of this state, to be known also while no server runs."""
        return self.folder / "instance"

    @property
    def address(self) -> Path:
        """Port and process of the running server."""
        return self.folder / "server.json"

    @property
    def server_lock(self) -> Path:
        """Held by the one server of this state as long as it lives."""
        return self.folder / "server.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by the commands that use a server which ends with its last user."""
        return self.folder / "users.lock"

    def competition(self, slug: str) -> Path:
        """What is served for one competition."""
        return self.folder / "competitions" / slug

    def archive(self, slug: str) -> Path:
        """All files of a competition in one zip."""
        return self.competition(slug) / f"{slug}.zip"

    def files(self, slug: str) -> Path:
        """The same files, extracted when first needed."""
        return self.competition(slug) / "files"

    def rerun(self, slug: str) -> Path:
        """The files and labels that a code competition runs kernels again on."""
        return self.competition(slug) / "rerun"

    def log(self, version: int) -> Path:
        """What a kernel version printed when it ran."""
        return self.kernels / str(version) / "log.jsonl"

    def output(self, version: int) -> Path:
        """The files that a kernel version left behind when it was complete."""
        return self.kernels / str(version) / "output"
