"""What a competition's submission looks like, taken from its own sample submission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.competition import VALUES, Competition
from pipeline.data.ids import match_ids
from pipeline.data.questions import definition_path, to_decide
from pipeline.data.sample import Sample, find_sample
from pipeline.data.submission.values import (
    POSITIVE,
    infer_column_values,
    infer_values,
    positive_class,
)
from pipeline.errors import ConfigError, DataError
from pipeline.metrics import metric_named
from pipeline.reading import read_errors

_PER_CLASS = ("probabilities", "indicators")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionForm:
    """One row per id of `ids`, in that order; `test_ids` are the images that they mean.

    `values` is one of: "label", a class name; "index", a position in `classes`; "labels", several
    class names in one cell with `separator` between them, the `ranked` most probable ones or, where
    that is 0, those that the image has; "indicators", a column of 0 and 1 per class;
    "probabilities", a column per class; "probability", that of the class `positive`. Columns are
    in the order of `classes`. Probabilities add up to 1 unless the images are `multi_label`.
    """

    columns: tuple[str, ...]
    id_column: str
    ids: list[str]
    test_ids: list[str]
    values: str
    classes: tuple[str, ...]
    positive: str | None = None
    multi_label: bool = False
    ranked: int = 0
    separator: str = " "

    @property
    def has_columns_per_class(self) -> bool:
        """Whether each class has a column of its own."""
        return self.values in _PER_CLASS

    @property
    def value_columns(self) -> list[str]:
        """All columns but the id."""
        return [name for name in self.columns if name != self.id_column]


def read_form(
    raw: Path, competition: Competition, classes: tuple[str, ...], test_ids: list[str]
) -> SubmissionForm:
    """The form of the sample submission in `raw`, or of the definition where there is no sample.

    Raises:
        ConfigError: the form is undecided; names the key to set and the candidates.
        DataError: the sample's ids are not those of the test images.
        StorageError: the sample may not be read.
    """
    with read_errors(raw):
        sample = find_sample(raw, competition)
    if sample is None:
        return _defined_form(raw, competition, classes, test_ids)
    values = competition.submission.values or _values_of(sample, competition, classes)
    targets = sample.target_columns
    _check_columns(targets, values, competition, classes, str(sample.path))
    return SubmissionForm(
        columns=tuple(map(str, sample.table.columns)),
        id_column=sample.id_column,
        ids=sample.ids,
        test_ids=_matching_test_ids(sample, test_ids),
        values=values,
        classes=tuple(targets) if values in _PER_CLASS else classes,
        positive=_positive(values, targets[0], competition, classes),
        **_several_labels(competition),
    )


def _defined_form(
    raw: Path, competition: Competition, classes: tuple[str, ...], test_ids: list[str]
) -> SubmissionForm:
    spec = competition.submission
    needed = {"id": spec.id, "values": spec.values, "target": spec.target}
    if spec.values in _PER_CLASS:
        del needed["target"]
    if spec.values == "probability":
        needed["positive"] = positive_class(spec.target or "", competition, classes)
    missing = [f"[submission] {name}" for name, value in needed.items() if value is None]
    if spec.id is None or spec.values is None or missing:
        raise to_decide(
            competition,
            missing[0],
            f"{raw} has no sample submission: put it there, or describe it: "
            f"{', '.join(missing)} missing",
            VALUES if missing[0].endswith("values") else (),
        )
    targets = list(classes) if spec.target is None else [spec.target]
    where = definition_path(competition)
    _check_columns(targets, spec.values, competition, classes, where)
    return SubmissionForm(
        columns=(spec.id, *targets),
        id_column=spec.id,
        ids=list(test_ids),
        test_ids=list(test_ids),
        values=spec.values,
        classes=classes,
        positive=_positive(spec.values, targets[0], competition, classes),
        **_several_labels(competition),
    )


def _several_labels(competition: Competition) -> dict[str, Any]:
    """The parts of a form that concern images, or rankings, with several labels."""
    ranked = metric_named(competition.metric).length if competition.metric else 0
    return {
        "multi_label": bool(competition.multi_label),
        "ranked": ranked,
        "separator": _separator(competition),
    }


def _separator(competition: Competition) -> str:
    """What stands between the class names of a cell."""
    return competition.data.label_separator or " "


def _values_of(sample: Sample, competition: Competition, classes: tuple[str, ...]) -> str:
    targets = sample.target_columns
    if len(targets) == 1:
        return infer_values(sample, competition, classes)
    if set(targets) == set(classes):
        return infer_column_values(sample, competition)
    raise _mismatch(targets, competition, classes, str(sample.path))


def _mismatch(
    targets: Sequence[str], competition: Competition, classes: tuple[str, ...], where: str
) -> DataError:
    """Value columns that should be the classes and are not: what each side has alone."""
    columns = [repr(name) for name in targets if name not in classes]
    unasked = [repr(name) for name in classes if name not in targets]
    sides = [
        f"{what} {', '.join(names[:10])} {without}"
        for what, names, without in (
            ("column", columns, "is no class"),
            ("class", unasked, "has no column"),
        )
        if names
    ]
    remedy = "give the training images' classes (folders, file names or labels) the columns' names"
    if len(targets) == len(classes) and set(classes) == set(map(str, range(len(classes)))):
        toml = definition_path(competition)
        remedy = f"set `classes` in {toml} to the columns' names, in the order of their numbers"
    return DataError(
        f"{where}: its {len(targets)} value columns are not the {len(classes)} classes: "
        f"{'; '.join(sides)}; {remedy}"
    )


def _check_columns(
    targets: Sequence[str],
    values: str,
    competition: Competition,
    classes: tuple[str, ...],
    where: str,
) -> None:
    """The value columns must be able to hold such values."""
    target = competition.submission.target
    expected = list(classes) if values in _PER_CLASS else [target or targets[0]]
    if sorted(targets) != sorted(expected):
        if values in _PER_CLASS and len(targets) > 1:
            raise _mismatch(targets, competition, classes, where)
        is_misnamed = values not in _PER_CLASS and target not in {None, *targets}
        raise to_decide(
            competition,
            "[submission] target" if is_misnamed else "[submission] values",
            f"{where}: {values} needs the columns {', '.join(expected)} beside the id, and there "
            f"are {', '.join(targets)}",
        )
    _check_answers(values, competition, where)
    if values == "labels":
        _check_separable(classes, competition, where)
    if values == "probability" and len(classes) != 2:
        problem = f"{where}: one probability per id needs two classes, and there are {len(classes)}"
        raise to_decide(competition, "[submission] values", problem, VALUES)


def _check_answers(values: str, competition: Competition, where: str) -> None:
    """The values must be what the metric compares, and what such labels can be."""
    answers = metric_named(competition.metric).answers if competition.metric else None
    if competition.multi_label:
        fitting = {
            "decisions": ("labels", "indicators"),
            "probabilities": ("probabilities",),
            None: ("labels", "indicators", "probabilities"),
        }[answers]
    else:
        fitting = {
            "decisions": ("label", "index"),
            "probabilities": ("probabilities", "probability"),
            "ranking": ("labels",),
            None: ("label", "index", "probabilities", "probability"),
        }[answers]
    if values not in fitting:
        what = f"metric {competition.metric}" if competition.metric else "such labels"
        problem = f"{where}: values are {values!r}, which {what} cannot score"
        raise to_decide(competition, "[submission] values", problem, fitting)


def _check_separable(classes: tuple[str, ...], competition: Competition, where: str) -> None:
    """Names that hold what stands between them could not be told apart in a cell."""
    separator = _separator(competition)
    held = [name for name in classes if separator in name]
    if held:
        one_each = "" if competition.multi_label else ", beside `multi_label = false`,"
        raise ConfigError(
            f"{where}: {len(held)} of {len(classes)} class names hold {separator!r}, which stands "
            f"between the names of a cell, first {held[0]!r}; set `[data] label_separator`"
            f"{one_each} in {definition_path(competition)} to what the competition puts there"
        )


def _matching_test_ids(sample: Sample, test_ids: list[str]) -> list[str]:
    found = match_ids(sample.ids, test_ids)
    missing = [name for name, position in zip(sample.ids, found, strict=True) if position is None]
    if missing:
        raise DataError(
            f"{sample.path}: {len(missing)} of {len(found)} ids are no test image, first "
            f"{missing[0]!r}; download both again"
        )
    positions = [position for position in found if position is not None]
    extra = sorted(set(range(len(test_ids))) - set(positions))
    if extra:
        raise DataError(
            f"{sample.path}: {len(extra)} of {len(test_ids)} test images have no row, first "
            f"{test_ids[extra[0]]!r}; download both again"
        )
    return [test_ids[position] for position in positions]


def _positive(
    values: str, target: str, competition: Competition, classes: tuple[str, ...]
) -> str | None:
    """The class whose probability is asked for."""
    if values != "probability":
        return None
    positive = positive_class(target, competition, classes)
    if positive is None:
        problem = f"cannot tell which class the probability in column {target!r} means"
        raise to_decide(competition, POSITIVE, problem, classes)
    return positive
