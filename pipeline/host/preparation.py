"""Builds a competition: one zip of everything it serves, and its hidden labels in the store."""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.artifacts import storage_errors
from pipeline.host import layouts
from pipeline.host.catalog import RECIPES, definition
from pipeline.host.contests import Contests, ServedFile
from pipeline.host.layouts import File, Part, number
from pipeline.host.sources.images import Collection, Labelled
from pipeline.host.state import State

_SEED = 20260101
_PRIVATE_SHARE = 0.7
_RERUN_SEED = 20260102
_RERUN_SHARE = 0.6
_SMALLEST_STRATUM = 4
_FILES, _SOLUTION = "files", "solution.csv"
# The oldest time a zip can hold: the same data always gives the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class Preparation:
    """Builds each competition of a state once, whichever thread asks first."""

    def __init__(self, state: State, contests: Contests) -> None:
        self._state = state
        self._contests = contests
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def ensure(self, slug: str) -> None:
        """Build the competition's archive and solution unless both are there.

        Raises:
            HostError: no source of its images can be reached.
            StorageError: the disk is full, or the state folder is read-only.
        """
        with self._locks[slug]:
            contest = self._contests.get(slug)
            if contest and contest.prepared_at and self._state.archive(slug).is_file():
                return
            build(slug, self._state, self._contests)

    def files(self, slug: str) -> Path:
        """The folder of the competition's served files, extracted when first asked for.

        Raises:
            HostError: no source of its images can be reached.
            StorageError: the disk is full, or the state folder is read-only.
        """

        def extract(folder: Path) -> None:
            with zipfile.ZipFile(self._state.archive(slug)) as archive:
                archive.extractall(folder)

        return self._built_once(slug, self._state.files(slug), extract)

    def rerun(self, slug: str) -> Rerun:
        """What a code competition runs kernels again on, built when first asked for.

        Raises:
            HostError: no source of its images can be reached.
            StorageError: the disk is full, or the state folder is read-only.
        """
        folder = self._built_once(
            slug, self._state.rerun(slug), lambda new: _build_rerun(slug, self._state, new)
        )
        return Rerun(folder / _FILES, folder / _SOLUTION)

    def _built_once(self, slug: str, folder: Path, build: Callable[[Path], None]) -> Path:
        """The folder, made whole by `build` unless it is there."""
        self.ensure(slug)
        with self._locks[slug], storage_errors(folder):
            if not folder.is_dir():
                partial = folder.with_name(f".{folder.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                build(partial)
                partial.rename(folder)
        return folder


@dataclass(frozen=True, slots=True)
class Rerun:
    """The files of a rerun, and the hidden labels of its test set as a CSV."""

    files: Path
    labels: Path

    def solution(self) -> pd.DataFrame:
        """The hidden labels, as `Contests.solution` gives those of the known test set."""
        types = {"id": str, "label": str, "public": bool}
        # An image without a label has an empty cell.
        table = pd.read_csv(self.labels, dtype=types, keep_default_na=False)
        return table.set_index("id")


def build(slug: str, state: State, contests: Contests) -> None:
    """Load the images, write the archive, and only then record the competition as prepared."""
    collection = _shuffled(RECIPES[slug].load(state.sources))
    train, test = _parts(slug, collection.train, collection.test, len(collection.train) + 1)
    # Files extracted from an earlier archive must not outlive it.
    shutil.rmtree(state.competition(slug), ignore_errors=True)
    files = write_archive(state.archive(slug), _files(slug, train, test))
    contests.record(slug, files, hidden_labels(test))


def _build_rerun(slug: str, state: State, folder: Path) -> None:
    """Other ids and another number of test images than those that are served."""
    collection = _shuffled(RECIPES[slug].load(state.sources))
    images = collection.test
    rows = np.random.default_rng(_RERUN_SEED).permutation(len(images))
    hidden = images.take(rows[: round(_RERUN_SHARE * len(images))])
    first_id = len(collection.train) + len(images) + 1
    train, test = _parts(slug, collection.train, hidden, first_id)
    for name, content in _files(slug, train, test):
        path = folder / _FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    hidden_labels(test).to_csv(folder / _SOLUTION, index=False)


def _parts(slug: str, train: Labelled, test: Labelled, first_id: int) -> tuple[Part, Part]:
    """Both parts with ids and class names; the test ids begin at `first_id`."""
    competition = definition(slug)
    ids_are_rows = RECIPES[slug].layout is layouts.idx
    return number(train, competition, 1), number(test, competition, 1 if ids_are_rows else first_id)


def _files(slug: str, train: Part, test: Part) -> Iterator[File]:
    """Everything that the competition serves."""
    sample = layouts.sample_submission(test.ids, definition(slug))
    return chain([sample], RECIPES[slug].layout(train, test))


def _shuffled(collection: Collection) -> Collection:
    rng = np.random.default_rng(_SEED)
    return Collection(
        collection.train.take(rng.permutation(len(collection.train))),
        collection.test.take(rng.permutation(len(collection.test))),
    )


def hidden_labels(test: Part) -> pd.DataFrame:
    """The solution: id, label, public; 30 % of each class is public, no group is in both parts."""
    from sklearn.model_selection import train_test_split  # slow to import, and built only once

    solution = pd.DataFrame({"id": test.ids, "label": test.labels})
    units = pd.Series(next(iter(test.groups.values()), test.ids))
    firsts = ~units.duplicated()
    private = train_test_split(
        units[firsts],
        test_size=_PRIVATE_SHARE,
        stratify=_strata(solution["label"][firsts]),
        random_state=_SEED,
    )[1]
    solution["public"] = ~units.isin(private)
    return solution


def _strata(labels: pd.Series) -> pd.Series:
    """The labels to draw by; those too rare for both parts count as the most frequent one."""
    counts = labels.value_counts()
    return labels.where(labels.map(counts) >= _SMALLEST_STRATUM, counts.index[0])


def write_archive(path: Path, files: Iterator[File]) -> list[ServedFile]:
    """Write the files to a zip that appears whole; the same files give the same bytes."""
    served = []
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(partial, "w") as archive:
                progress = tqdm(files, desc=f"building {path.stem}", unit=" files", disable=None)
                for name, content in progress:
                    archive.writestr(_entry(name), content)
                    served.append(ServedFile(name, len(content)))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return served


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _NO_TIME)
    entry.external_attr = 0o644 << 16
    is_compressed = name.endswith((".png", ".jpg"))
    entry.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
    return entry
