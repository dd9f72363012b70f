"""What the values of a sample submission's one value column mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.competition import VALUES, Competition
from pipeline.data.questions import to_decide, to_decide_both
from pipeline.data.sample import Sample
from pipeline.metrics import metric_named

POSITIVE = "[submission] positive"
_WHOLE = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d*\.?\d+(e-?\d+)?|\d+\.", re.IGNORECASE)
_POSITIVES: dict[tuple[str, ...], str] = {
    ("0", "1"): "1",
    ("false", "true"): "true",
    ("no", "yes"): "yes",
}


def infer_values(sample: Sample, competition: Competition, classes: tuple[str, ...]) -> str:
    """ "label", "index" or "probability": the one reading that values, classes and metric allow.

    Raises:
        ConfigError: several readings are possible, as for a column of zeros, or none is.
    """
    answers = metric_named(competition.metric).answers if competition.metric else None
    if competition.multi_label or answers == "ranking":
        return "labels"
    (target,) = sample.target_columns
    texts = set(sample.table[target])
    readings = _readings(texts, classes)
    if "probability" in readings and len(readings) > 1:
        if answers == "probabilities":
            return "probability"
        # A sample that holds both 0 and 1 shows decisions.
        if answers == "decisions" or len(texts) > 1:
            readings.remove("probability")
    if len(readings) == 1:
        return readings[0]
    shown = ", ".join(sorted(texts)[:5])
    problem = (
        f"{sample.path}: the values ({shown}) could be {' or '.join(readings)}"
        if readings
        else f"{sample.path}: the values ({shown}) are no classes ({', '.join(classes[:10])}), "
        "positions of classes or probabilities"
    )
    key = "[submission] values"
    if "probability" in readings and positive_class(target, competition, classes) is None:
        then = ("probability", POSITIVE, classes)
        raise to_decide_both(competition, key, problem, readings, then=then)
    raise to_decide(competition, key, problem, readings or VALUES)


def infer_column_values(sample: Sample, competition: Competition) -> str:
    """ "indicators" or "probabilities", of a sample with a column per class.

    Raises:
        ConfigError: images may have several labels, and neither metric nor values tell.
    """
    if not competition.multi_label:
        return "probabilities"
    if competition.metric:
        answers = metric_named(competition.metric).answers
        return "probabilities" if answers == "probabilities" else "indicators"
    texts = {text for name in sample.target_columns for text in sample.table[name]}
    if not texts <= {"0", "1"}:
        return "probabilities"
    problem = f"{sample.path}: zeros and ones could be decisions or probabilities"
    candidates = ("indicators", "probabilities")
    raise to_decide(competition, "[submission] values", problem, candidates)


def positive_class(target: str, competition: Competition, classes: Sequence[str]) -> str | None:
    """The class whose probability the column `target` holds; None where nothing tells.

    Raises:
        ConfigError: the definition names one that is no class.
    """
    named = competition.submission.positive
    if named is not None and named not in classes:
        raise to_decide(competition, POSITIVE, f"{named!r} is no class", classes)
    if named is not None or target in classes:
        return named or target
    usual = _POSITIVES.get(tuple(sorted(name.lower() for name in classes)))
    return next((name for name in classes if name.lower() == usual), None)


def _readings(texts: set[str], classes: tuple[str, ...]) -> list[str]:
    readings = []
    positions = {str(position) for position in range(len(classes))}
    if texts <= set(classes):
        readings.append("label")
    elif texts <= positions and not any(_WHOLE.fullmatch(name) for name in classes):
        readings.append("index")
    if len(classes) == 2 and all(_DECIMAL.fullmatch(text) and float(text) <= 1 for text in texts):
        readings.append("probability")
    return readings
