"""preprocess: raw files to one tensor cache per content, with a contact sheet to look at."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import content_key, is_complete, read_json, whole_folder, write_json
from pipeline.competition import Competition, competition_from
from pipeline.data.cache import CACHE_VERSION, build_cache, load_cache
from pipeline.data.contact_sheet import write_contact_sheet
from pipeline.data.fingerprint import known_fingerprint, raw_fingerprint
from pipeline.data.layouts import RawDataset, mirror_reason, read_layout
from pipeline.data.submission import SubmissionForm, read_form
from pipeline.metrics import check_metric
from pipeline.stages.console import say
from pipeline.workspace import Workspace

INFERRED = "competition.json"
# By whether images may have several labels, and what the submission holds.
_USUAL_METRICS = {
    (False, "label"): "accuracy",
    (False, "index"): "accuracy",
    (False, "probability"): "log_loss",
    (False, "probabilities"): "log_loss",
    (True, "labels"): "micro_f1",
    (True, "indicators"): "micro_f1",
    (True, "probabilities"): "log_loss",
}
CONTACT_SHEET = "contact_sheet.png"


def preprocess(workspace: Workspace, definition: Competition) -> Path:
    """The cache folder of the competition's raw files, built unless it is there already.

    Raises:
        DataError: the raw files are damaged or contradict each other.
        ConfigError: something that the files leave open must be set in competition.toml.
    """
    raw = workspace.raw(definition.slug)
    folder = workspace.caches(definition.slug) / _cache_key(raw_fingerprint(raw), definition)
    if is_complete(folder):
        say("preprocess", f"up to date: {folder}")
        return folder
    dataset = read_layout(raw, definition)
    say("preprocess", f"layout {dataset.layout}: {_counts(dataset)}")
    _check_form_and_metric(raw, dataset)
    with whole_folder(folder) as partial:
        size = build_cache(dataset, partial)
        cache = load_cache(partial)
        write_contact_sheet(cache.train, cache.classes, partial / CONTACT_SHEET)
        write_json(partial / INFERRED, dataset.competition.as_dict())
    say("preprocess", f"images: {size}")
    say("preprocess", mirror_reason(definition, dataset.classes))
    say("preprocess", f"done: {folder}; look at {CONTACT_SHEET} in it")
    return folder


def planned_cache(workspace: Workspace, definition: Competition) -> Path | None:
    """Where `preprocess` would have the cache; reads no raw file and writes nothing.

    None: a raw file is new or changed since they were last read.
    """
    fingerprint = known_fingerprint(workspace.raw(definition.slug))
    if fingerprint is None:
        return None
    return workspace.caches(definition.slug) / _cache_key(fingerprint, definition)


def _cache_key(fingerprint: str, definition: Competition) -> str:
    """What decides the tensors: the files, and what the definition says of reading them."""
    return content_key(
        {
            "raw": fingerprint,
            "data": _reading(definition),
            "classes": definition.classes,
            "multi_label": definition.multi_label,
            "sample": [definition.submission.sample, definition.submission.id],
            "version": CACHE_VERSION,
        }
    )


def _reading(definition: Competition) -> dict[str, Any]:
    """What the definition says of reading the files.

    A key that came later is left out while it says what was done before: caches keep their names.
    """
    values = asdict(definition.data)
    if values["resize"] in {None, "crop"}:
        del values["resize"]
    return values


def resolve(workspace: Workspace, definition: Competition, cache: Path) -> Competition:
    """As `describe`; says which metric it takes where the definition names none.

    The submission's form is read here, too: a cache stays where what the definition says of it, or
    the metric, was changed.

    Raises:
        ConfigError: the submission cannot hold what the metric scores, or its form is open.
    """
    competition = describe(workspace, definition, cache)
    values = submission_form(workspace, competition, cache).values
    if definition.metric is None:
        line = f"metric {competition.metric}, from the sample's {values}; set by the key metric"
        say("preprocess", line)
    return competition


def describe(workspace: Workspace, definition: Competition, cache: Path) -> Competition:
    """The competition as its definition and its files together describe it."""
    values: dict[str, Any] = read_json(cache / INFERRED)
    inferred = competition_from(values.pop("slug"), values, str(cache / INFERRED))
    spec = replace(
        definition.submission, sample=inferred.submission.sample, id=inferred.submission.id
    )
    competition = replace(
        inferred, title=definition.title, metric=definition.metric, submission=spec
    )
    if competition.metric is not None:
        _check_metric(competition, competition.metric, len(competition.classes))
        return competition
    form = submission_form(workspace, competition, cache)
    metric = _USUAL_METRICS[bool(competition.multi_label), form.values]
    return replace(competition, metric=metric)


def submission_form(workspace: Workspace, competition: Competition, cache: Path) -> SubmissionForm:
    """What the competition's submission must look like."""
    data = load_cache(cache)
    return read_form(workspace.raw(competition.slug), competition, data.classes, data.test.ids)


def _check_form_and_metric(raw: Path, dataset: RawDataset) -> None:
    """Read the submission form now, so that what it leaves open fails before any training."""
    competition = dataset.competition
    if competition.metric is not None:
        _check_metric(competition, competition.metric, len(dataset.classes))
    read_form(raw, dataset.competition, dataset.classes, dataset.test.ids)


def _check_metric(competition: Competition, metric: str, classes: int) -> None:
    check_metric(metric, multi_label=bool(competition.multi_label), classes=classes)


def _counts(dataset: RawDataset) -> str:
    return (
        f"{len(dataset.train.ids)} training and {len(dataset.test.ids)} test images, "
        f"{len(dataset.classes)} classes"
    )
