"""The client's verbs for datasets: private, uploaded once, and ready before anything uses them."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.artifacts import write_json
from pipeline.client.calls import UPLOAD_BYTES_PER_SECOND, Calls
from pipeline.client.credentials import scrub
from pipeline.client.failures import CallFailedError
from pipeline.errors import HostError

METADATA = "dataset-metadata.json"
_READY, _FAILED = "ready", "failed"
_SECONDS_TO_GET_READY = 30 * 60.0
_SECONDS_TO_APPEAR = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_MISSING = (403, 404)  # Kaggle does not say whether a private dataset that is not there exists


class Datasets:
    """Datasets of one endpoint. A `dataset` is named owner/slug."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._host = calls.endpoint.title

    def files(self, dataset: str) -> list[str] | None:
        """Names of the newest version's files, once it is ready; None: there is no such dataset.

        A version that the host could not take has none.
        """
        status = self._settled_status(dataset)
        if status is None:
            return None
        if status != _READY:
            return []
        with self._calls.errors(f"listing the files of {dataset}"):
            return [str(name) for name in self._calls.read("dataset_files", dataset=dataset)]

    def save(self, folder: Path, dataset: str, title: str, notes: str) -> None:
        """Make the files in `folder` the newest version of a private dataset, and wait for it.

        The metadata that the client wants is written into the folder. When the answer to an
        upload is lost, the version is looked for, and never uploaded again.

        Raises:
            HostError: the host refused the files or could not process them, or the outcome is
                not known.
            StorageError: the folder cannot be written.
        """
        names = sorted(path.name for path in folder.iterdir() if path.name != METADATA)
        size = sum((folder / name).stat().st_size for name in names)
        is_new = self.files(dataset) is None
        _write_metadata(folder, dataset, title)
        with self._calls.errors(f"uploading {dataset}"):
            try:
                error = self._calls.write(
                    "save_dataset",
                    more_seconds=size / UPLOAD_BYTES_PER_SECOND,
                    folder=str(folder),
                    notes=notes,
                    is_new=is_new,
                )
            except CallFailedError:
                # A refusal too: the client repeats a call that it lost, and that finds it done.
                if self.files(dataset) != names:
                    raise
                return
        if error:
            said = scrub(error, self._calls.endpoint.environment)
            raise HostError(f"{self._host} did not take {dataset}: {said}; mend it and rerun")
        self._wait_for(dataset, names)

    def _wait_for(self, dataset: str, names: list[str]) -> None:
        """A host has a minute to show what it took.

        Raises:
            HostError: it does not.
        """
        deadline = time.monotonic() + _SECONDS_TO_APPEAR
        while self.files(dataset) != names:
            if time.monotonic() >= deadline:
                raise HostError(
                    f"{self._host} took the files of {dataset} but does not list them; look at "
                    "its page and rerun"
                )
            time.sleep(1.0)

    def _settled_status(self, dataset: str) -> str | None:
        """The status once the host has processed the newest version.

        Raises:
            HostError: it takes too long.
        """
        started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        with self._calls.errors(f"reading the status of {dataset}"):
            while True:
                try:
                    status = str(self._calls.read("dataset_status", dataset=dataset))
                except CallFailedError as failed:
                    if failed.failure.status in _MISSING:
                        return None
                    raise
                if status in (_READY, _FAILED):
                    return status
                if time.monotonic() - started >= _SECONDS_TO_GET_READY:
                    raise HostError(
                        f"{self._host}: {dataset} is {status} after "
                        f"{_SECONDS_TO_GET_READY / 60:.0f} minutes; rerun to go on waiting"
                    )
                time.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)


def _write_metadata(folder: Path, dataset: str, title: str) -> None:
    # What a network's weights may be used for is their makers' word, not a licence of this upload.
    metadata = {"id": dataset, "title": title, "licenses": [{"name": "other"}]}
    write_json(folder / METADATA, metadata)
