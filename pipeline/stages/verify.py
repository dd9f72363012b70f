"""verify: compare every artefact of a competition with the hash that was noted when it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.artifacts import MANIFEST, read_json, sha256_of, verify_manifest
from pipeline.client.ledger import Ledger
from pipeline.errors import DataError
from pipeline.stages.console import say
from pipeline.stages.download import is_downloaded
from pipeline.stages.hosts import check_slug
from pipeline.stages.settings import Settings
from pipeline.stages.submission import SUBMISSION
from pipeline.training.pseudo import pseudo_hash
from pipeline.training.run import FOLDS, MADE_FROM, OUT_OF_FOLD, PSEUDO, RECORD, Run

_Check = Callable[[], object]


def verify(settings: Settings) -> None:
    """Check raw files, caches, and of every run the folds, fold map, sources and uploaded file.

    Raises:
        DataError: something differs from what was noted; says how much, and the first.
    """
    check_slug(settings.competition)
    checks = list(_checks(settings))
    problems = []
    for name, check in tqdm(checks, desc="verify", unit="artefact", dynamic_ncols=True):
        try:
            check()
        except DataError as err:
            problems.append(str(err))
            say("verify", f"DAMAGED {name}")
    if problems:
        raise DataError(f"{len(problems)} of {len(checks)} artefacts are damaged: {problems[0]}")
    say("verify", f"{len(checks)} artefacts of {settings.competition} are as they were made")


def _checks(settings: Settings) -> Iterator[tuple[str, _Check]]:
    """Each artefact's name, and what raises DataError where it is not as it was made."""
    workspace, slug = settings.workspace, settings.competition
    raw = workspace.raw(slug)
    folders = [raw] if is_downloaded(raw) else []  # a person's own files may hold any manifest
    folders += sorted(workspace.caches(slug).glob("[!.]*"))
    runs = sorted(path.parent for path in workspace.runs(slug).glob(f"*/{RECORD}"))
    for run in runs:
        folders += sorted(run.glob("fold*/"))
    for folder in folders:
        if (folder / MANIFEST).is_file():
            yield str(folder), partial(verify_manifest, folder)
    uploaded = {
        upload.run: upload.file_sha256
        for upload in Ledger(workspace.ledger).uploads()
        if upload.competition == slug
    }
    for run in runs:
        yield from _of_run(run, uploaded.get(run.name))


def _of_run(run: Path, uploaded: str | None) -> Iterator[tuple[str, _Check]]:
    """What the run's record, or the ledger, has the hash of; the record, where it has none."""
    try:
        yield from list(_recorded(run, read_json(run / RECORD)))
    except (DataError, KeyError, TypeError) as err:
        yield str(run / RECORD), partial(_tell_damaged, run / RECORD, err)
    if uploaded is not None:
        yield str(run / SUBMISSION), partial(_compare, run / SUBMISSION, uploaded)


def _tell_damaged(record: Path, err: Exception) -> None:
    if isinstance(err, DataError):
        raise err
    raise DataError(f"{record} is damaged ({err}); delete {record.parent} and rerun") from err


def _recorded(run: Path, record: dict[str, Any]) -> Iterator[tuple[str, _Check]]:
    yield str(run / FOLDS), partial(_compare, run / FOLDS, record["folds"]["sha256"])
    if PSEUDO in record:
        for number in range(record["folds"]["count"]):
            yield f"{run} pseudo-labels {number}", partial(pseudo_hash, Run(run, record), number)
    for source in record.get(MADE_FROM, []):
        path = run.parent / source["run"] / OUT_OF_FOLD
        yield str(path), partial(_compare, path, source["oof_sha256"])


def _compare(path: Path, expected: str) -> None:
    """Compare a file with its noted hash.

    Raises:
        DataError: it is missing, or another.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; delete {path.parent} and rerun")
    if sha256_of(path) != expected:
        raise DataError(
            f"{path} is not what it was when {path.parent.name} was made or uploaded; delete "
            f"{path.parent} and rerun"
        )
