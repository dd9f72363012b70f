"""Finished runs by name, with their predictions joined by id: what refinements are made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import read_json, sha256_of
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.errors import ConfigError, DataError
from pipeline.metrics.decisions import Probabilities
from pipeline.stages.console import say
from pipeline.stages.predict import PREDICTIONS, predict
from pipeline.stages.train import cv_text
from pipeline.training.folds import read_folds
from pipeline.training.run import FOLDS, MADE_FROM, OUT_OF_FOLD, RECORD, Run
from pipeline.training.tables import read_probabilities
from pipeline.workspace import Workspace

ALL = "all"
# Raise it when the same runs would be refined to other numbers.
REFINE_VERSION = 1


@dataclass(frozen=True)
class Member:
    """A finished run and the images that it was cross-validated on."""

    folder: Path
    record: dict[str, Any]
    data: TensorCache

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def is_derived(self) -> bool:
        """Whether it was made from other runs."""
        return MADE_FROM in self.record

    @property
    def is_predicted(self) -> bool:
        """Whether its predictions of the test images are there."""
        return (self.folder / PREDICTIONS).exists()

    @property
    def fold_map(self) -> str:
        """The hash of its fold map."""
        return str(self.record["folds"]["sha256"])

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """The fold of each training image, int64 [N]."""
        return read_folds(self.folder / FOLDS, self.data.train.ids)

    @cached_property
    def out_of_fold(self) -> Probabilities:
        """[N, classes] in the order of the training images.

        Raises:
            DataError: its ids or classes are others.
        """
        return self._table(OUT_OF_FOLD, self.data.train.ids, "training")

    @cached_property
    def test(self) -> Probabilities:
        """[N, classes] in the order of the test images.

        Raises:
            DataError: its ids or classes are others.
        """
        return self._table(PREDICTIONS, self.data.test.ids, "test")

    def hashes(self) -> dict[str, str]:
        """What identifies its predictions."""
        files = {"oof_sha256": OUT_OF_FOLD, "test_sha256": PREDICTIONS}
        return {
            "run": self.name,
            **{key: sha256_of(self.folder / name) for key, name in files.items()},
        }

    def _table(self, name: str, ids: Sequence[str], kind: str) -> Probabilities:
        path = self.folder / name
        table = read_probabilities(path)
        _check_same(path, "classes", table.columns, self.data.classes)
        _check_same(path, f"{kind} images", table.index, ids)
        values = table.loc[list(ids), list(self.data.classes)].to_numpy()
        broken = np.flatnonzero(~(np.isfinite(values) & (values >= 0)).all(axis=1))
        if len(broken):
            raise DataError(
                f"{path}: {len(broken)} rows are no probabilities, first id "
                f"{ids[broken[0]]!r}; delete that run and train it again"
            )
        return values


def open_members(
    workspace: Workspace, competition: Competition, cache: Path, names: Sequence[str]
) -> list[Member]:
    """The finished runs `names`, predicted, which share ids, classes and folds.

    Raises:
        ConfigError: a run is not there, not finished, of another competition or other folds, named
            twice, or has a decision that a further refinement would drop.
        DataError: a run has other ids or classes than the competition's images.
    """
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"RUNS: {repeated[0]!r} is named {names.count(repeated[0])} times")
    data = load_cache(cache)
    members = [open_member(workspace, competition, data, name) for name in names]
    for member in members:
        _check_no_decision(member)
        member.out_of_fold  # noqa: B018  read, and refused where it does not fit
        _check_folds(members[0], member)
        predict_missing(workspace, member)
        member.test  # noqa: B018
    return members


def open_member(
    workspace: Workspace, competition: Competition, data: TensorCache, name: str
) -> Member:
    """The finished run `name` of the competition.

    Raises:
        ConfigError: there is none, or it is not finished, or belongs to another competition.
    """
    folder, record = finished_record(workspace, competition.slug, name)
    return Member(folder, record, data)


def finished_record(workspace: Workspace, slug: str, name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the finished run `name`, and its record.

    Raises:
        ConfigError: there is none, or it is not finished, or belongs to another competition.
    """
    folder = find_run(workspace, slug, name)
    record: dict[str, Any] = read_json(folder / RECORD)
    if record.get("competition") != slug:
        raise ConfigError(
            f"RUN={name!r} belongs to the competition {record.get('competition')!r}, not {slug!r}"
        )
    if not is_finished(folder, record):
        raise ConfigError(
            f"RUN={name!r} is not finished: {folder} has no cross-validation score; rerun the "
            "command that began it"
        )
    return folder, record


def finished_run(workspace: Workspace, competition: Competition, cache: Path, name: str) -> Path:
    """The folder of the finished run `name`, whose images are those of the cache.

    Raises:
        ConfigError: there is none, or it is not predicted and was made from other images or lacks
            a fold.
    """
    member = open_member(workspace, competition, load_cache(cache), name)
    made_from = member.record["cache"]
    if not member.is_predicted:
        if made_from != cache.name:
            raise ConfigError(
                f"RUN={name!r} was trained on the tensors {made_from!r}, and the files now give "
                f"{cache.name!r}: it cannot predict them; give the SIZE that it was trained with, "
                "or train it again"
            )
        check_every_fold(member)
    say("run", f"{member.folder} ({cv_text(member.record['cv'])})")
    return member.folder


def find_run(workspace: Workspace, slug: str, name: str) -> Path:
    """The folder of the run `name`.

    Raises:
        ConfigError: the competition has no such run; names those that it has.
    """
    there = sorted(path.parent.name for path in workspace.runs(slug).glob(f"*/{RECORD}"))
    if name not in there:
        known = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
        elsewhere = sorted(workspace.runs("").glob(f"*/{name}/{RECORD}")) if _is_plain(name) else []
        hint = f"; {elsewhere[0].parent.parent.name!r} has it" if elsewhere else ""
        raise ConfigError(
            f"RUN={name!r} is no run of {slug!r}{hint}; there are: {known or 'none yet'}"
        )
    return workspace.runs(slug) / name


def all_trained(workspace: Workspace, competition: Competition, fold_map: Path) -> Iterator[str]:
    """The names of all finished runs with this fold map that were trained, not made from others."""
    sha256 = sha256_of(fold_map)
    for path in sorted(workspace.runs(competition.slug).glob(f"*/{RECORD}")):
        record = read_json(path)
        if (
            record.get("competition") == competition.slug
            and MADE_FROM not in record
            and record["folds"]["sha256"] == sha256
            and is_finished(path.parent, record)
        ):
            yield path.parent.name


def _is_plain(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".")


def is_finished(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the run in `folder` is cross-validated."""
    return "cv" in record and (folder / OUT_OF_FOLD).exists() and (folder / FOLDS).exists()


def check_every_fold(member: Member) -> None:
    """Make sure that the folds of a run are there, unless it was made from others and has none.

    Raises:
        ConfigError: a fold is missing or was cut.
    """
    if member.is_derived:
        return
    run = Run(member.folder, member.record)
    missing = run.missing_folds()
    if missing:
        raise ConfigError(
            f"RUN={member.name!r}: {len(missing)} of {len(run.folds)} folds are missing or "
            f"incomplete, first {run.fold(missing[0])}; rerun the command that made it"
        )


def _check_no_decision(member: Member) -> None:
    if "decision" in member.record:
        made_from = ", ".join(source["run"] for source in member.record[MADE_FROM])
        raise ConfigError(
            f"RUN={member.name!r} has a decision already, which is the last step; take what it "
            f"was made from: {made_from}"
        )


def _check_folds(first: Member, other: Member) -> None:
    """Out-of-fold predictions of other folds would let a fold's labels into its own nested fit."""
    if first.fold_map == other.fold_map:
        return
    moved = np.flatnonzero(first.fold != other.fold)
    raise ConfigError(
        f"{other.name} was cross-validated on other folds than {first.name}: {len(moved)} of "
        f"{len(first.fold)} images are in another fold, first {first.data.train.ids[moved[0]]!r}; "
        "use runs with the same FOLDS and FOLD_SEED"
    )


def predict_missing(workspace: Workspace, member: Member) -> None:
    """Predict the test images, unless the member's predictions are there.

    Raises:
        ConfigError: it was made from other runs, or lacks a fold.
        DataError: its cache or a fold is damaged.
    """
    if not member.is_predicted:
        check_every_fold(member)
        predict(
            member.folder, workspace.caches(member.record["competition"]) / member.record["cache"]
        )


def _check_same(path: Path, what: str, given: pd.Index, expected: Sequence[str]) -> None:
    """The table must have every expected name once, and no other."""
    names, wanted = pd.Index([str(name) for name in given]), pd.Index(list(expected))
    differing = [*names[names.duplicated()], *names.symmetric_difference(wanted, sort=False)]
    if differing:
        raise DataError(
            f"{path}: its {what} are not those of the competition: {len(differing)} differ, first "
            f"{differing[0]!r}; the data changed since, so train the run again"
        )
