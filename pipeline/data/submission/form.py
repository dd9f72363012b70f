"""What a competition's submission looks like, taken from its own sample submission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import VALUES, Competition
from pipeline.data.ids import match_ids
from pipeline.data.questions import definition_path, to_decide
from pipeline.data.sample import Sample, find_sample
from pipeline.data.submission.values import infer_values
from pipeline.errors import DataError
from pipeline.reading import read_errors

_POSITIVES: dict[tuple[str, ...], str] = {
    ("0", "1"): "1",
    ("false", "true"): "true",
    ("no", "yes"): "yes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionForm:
    """One row per id of `ids`, in that order; `test_ids` are the images that they mean.

    `values` is one of: "label", a class name; "index", a position in `classes`; "probabilities",
    a column per class, in the order of `classes`; "probability", that of the class `positive`.
    """

    columns: tuple[str, ...]
    id_column: str
    ids: list[str]
    test_ids: list[str]
    values: str
    classes: tuple[str, ...]
    positive: str | None = None

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
        classes=tuple(targets) if values == "probabilities" else classes,
        positive=_positive(values, targets[0], competition, classes),
    )


def _defined_form(
    raw: Path, competition: Competition, classes: tuple[str, ...], test_ids: list[str]
) -> SubmissionForm:
    spec = competition.submission
    needed = {"id": spec.id, "values": spec.values, "target": spec.target}
    if spec.values == "probabilities":
        del needed["target"]
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
    )


def _values_of(sample: Sample, competition: Competition, classes: tuple[str, ...]) -> str:
    targets = sample.target_columns
    if len(targets) == 1:
        return infer_values(list(sample.table[targets[0]]), sample.path, competition, classes)
    if set(targets) == set(classes):
        return "probabilities"
    raise to_decide(
        competition,
        "classes",
        f"{sample.path}: its {len(targets)} value columns ({', '.join(targets[:10])}) are not "
        f"the {len(classes)} classes ({', '.join(classes[:10])})",
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
    expected = list(classes) if values == "probabilities" else [target or targets[0]]
    if sorted(targets) != sorted(expected):
        is_misnamed = values != "probabilities" and target not in {None, *targets}
        raise to_decide(
            competition,
            "[submission] target" if is_misnamed else "[submission] values",
            f"{where}: {values} needs the columns {', '.join(expected)} beside the id, and there "
            f"are {', '.join(targets)}",
        )
    if values == "probability" and len(classes) != 2:
        problem = f"{where}: one probability per id needs two classes, and there are {len(classes)}"
        raise to_decide(competition, "[submission] values", problem, VALUES)


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
    key = "[submission] positive"
    named = competition.submission.positive
    if named is not None:
        if named not in classes:
            raise to_decide(competition, key, f"{named!r} is no class", classes)
        return named
    if target in classes:
        return target
    usual = _POSITIVES.get(tuple(sorted(name.lower() for name in classes)))
    if usual is None:
        problem = f"cannot tell which class the probability in column {target!r} means"
        raise to_decide(competition, key, problem, classes)
    return next(name for name in classes if name.lower() == usual)
