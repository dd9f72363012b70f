"""What the values of a sample submission's one value column mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import VALUES, Competition
from pipeline.data.questions import to_decide

_WHOLE = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d*\.?\d+(e-?\d+)?|\d+\.", re.IGNORECASE)
_WANTS_PROBABILITY = {"roc_auc", "auc", "log_loss", "logloss", "brier", "average_precision"}
_WANTS_LABEL = {"accuracy", "balanced_accuracy", "f1", "f1_macro", "f1_micro", "kappa", "qwk"}


def infer_values(
    texts: Sequence[str], path: Path, competition: Competition, classes: tuple[str, ...]
) -> str:
    """ "label", "index" or "probability": the one reading that values, classes and metric allow.

    Raises:
        ConfigError: several readings are possible, as for a column of zeros, or none is.
    """
    readings = _readings(set(texts), classes)
    metric = (competition.metric or "").lower().replace("-", "_").replace(" ", "_")
    if "probability" in readings and len(readings) > 1:
        if metric in _WANTS_PROBABILITY:
            return "probability"
        # A sample that holds both 0 and 1 shows decisions.
        if metric in _WANTS_LABEL or len(set(texts)) > 1:
            readings.remove("probability")
    if len(readings) == 1:
        return readings[0]
    shown = ", ".join(sorted(set(texts))[:5])
    problem = (
        f"{path}: the values ({shown}) could be {' or '.join(readings)}"
        if readings
        else f"{path}: the values ({shown}) are no classes ({', '.join(classes[:10])}), positions "
        "of classes or probabilities"
    )
    raise to_decide(competition, "[submission] values", problem, readings or VALUES)


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
