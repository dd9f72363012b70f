"""preprocess: raw files to one tensor cache per content, with a contact sheet to look at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import (
    MANIFEST,
    content_key,
    is_complete,
    read_json,
    sha256_of,
    whole_folder,
    write_json,
)
from pipeline.competition import Competition, competition_from
from pipeline.data.cache import CACHE_VERSION, build_cache, load_cache
from pipeline.data.contact_sheet import write_contact_sheet
from pipeline.data.layouts import RawDataset, read_layout
from pipeline.data.submission import SubmissionForm, read_form
from pipeline.stages.console import say
from pipeline.training.metrics import check_metric
from pipeline.workspace import Workspace

RESOLVED = "competition.json"
CONTACT_SHEET = "contact_sheet.png"


def preprocess(workspace: Workspace, competition: Competition) -> Path:
    """The cache folder of the competition's raw files, built unless it is there already.

    Raises:
        DataError: the raw files are damaged or contradict each other.
        ConfigError: something that the files leave open must be set in competition.toml.
    """
    raw = workspace.raw(competition.slug)
    key = content_key(
        {
            "raw": raw_fingerprint(raw, workspace.competition(competition.slug)),
            "competition": competition.as_dict(),
            "version": CACHE_VERSION,
        }
    )
    folder = workspace.caches(competition.slug) / key
    if is_complete(folder):
        say("preprocess", f"up to date: {folder}")
        return folder
    dataset = read_layout(raw, competition)
    say("preprocess", f"layout {dataset.layout}: {_counts(dataset)}")
    resolved = _resolve(
        raw, replace(dataset.competition, classes=dataset.classes), dataset.test.ids
    )
    with whole_folder(folder) as partial:
        size = build_cache(dataset, partial)
        cache = load_cache(partial)
        write_contact_sheet(cache.train, cache.classes, partial / CONTACT_SHEET)
        write_json(partial / RESOLVED, resolved.as_dict())
    say("preprocess", f"images: {size}")
    say("preprocess", f"done: {folder}; look at {CONTACT_SHEET} in it")
    return folder


def resolved_competition(cache: Path) -> Competition:
    """The competition as its definition and its files together describe it."""
    values: dict[str, Any] = read_json(cache / RESOLVED)
    return competition_from(values.pop("slug"), values, str(cache / RESOLVED))


def submission_form(workspace: Workspace, competition: Competition, cache: Path) -> SubmissionForm:
    """What the competition's submission must look like."""
    data = load_cache(cache)
    return read_form(workspace.raw(competition.slug), competition, data.classes, data.test.ids)


def _resolve(raw: Path, competition: Competition, test_ids: list[str]) -> Competition:
    """Read the submission form now, so that what it leaves open fails before any training."""
    form = read_form(raw, competition, competition.classes, test_ids)
    if competition.metric is not None:
        check_metric(competition.metric)
        return competition
    metric = "accuracy" if form.values in {"label", "index"} else "log_loss"
    say("preprocess", f"metric {metric}, from the sample's {form.values}; key: metric")
    return replace(competition, metric=metric)


def _counts(dataset: RawDataset) -> str:
    return (
        f"{len(dataset.train.ids)} training and {len(dataset.test.ids)} test images, "
        f"{len(dataset.classes)} classes"
    )


def raw_fingerprint(raw: Path, folder: Path) -> str:
    """Hash of every raw file's name and content; unchanged files are not read again."""
    index_path = folder / ".raw-index.json"
    known: dict[str, Any] = read_json(index_path) if index_path.exists() else {}
    index = {}
    for path in _files(raw):
        name, status = path.relative_to(raw).as_posix(), path.stat()
        seen = known.get(name)
        if seen is None or seen[:2] != [status.st_size, status.st_mtime_ns]:
            seen = [status.st_size, status.st_mtime_ns, sha256_of(path)]
        index[name] = seen
    if index != known:
        write_json(index_path, index)
    return content_key({name: entry[2] for name, entry in index.items()})


def _files(raw: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(raw):
        found += [Path(folder) / name for name in names]
    return sorted(path for path in found if path != raw / MANIFEST)
