"""The submission stage names the file to delete when a run's predictions are not whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.submission import SubmissionForm
from pipeline.errors import DataError, PipelineError, SubmissionError
from pipeline.stages.submission import submission
from pipeline.training.tables import probability_table, write_probabilities

IDS = ["a", "b", "c"]
FORM = SubmissionForm(
    columns=("id", "label"),
    id_column="id",
    ids=IDS,
    test_ids=IDS,
    values="label",
    classes=("cat", "dog"),
)
WHOLE = "id,cat,dog\na,0.75,0.25\nb,0.5,0.5\nc,0.25,0.75\n"


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("c,0.25,0.75\n", SubmissionError),
        (",0.25,0.75\n", DataError),
        (",0.75\n", DataError),
        ("0.75\n", DataError),
        ("a,0.75,0.25\nb,0.5,0.5\nc,0.25,0.75\n", DataError),
        (",cat,dog\na,0.75,0.25\nb,0.5,0.5\nc,0.25,0.75\n", PipelineError),
    ],
)
def test_predictions_that_were_cut(tmp_path: Path, end: str, error: type[PipelineError]) -> None:
    (tmp_path / "run.json").write_text("{}")
    predictions = tmp_path / "test.csv"
    predictions.write_text(WHOLE.removesuffix(end))
    with pytest.raises(error, match=r"test\.csv.*; delete (that file|it) and rerun$") as caught:
        submission(tmp_path, FORM)
    assert str(predictions) in str(caught.value)
    predictions.write_text(WHOLE)
    assert submission(tmp_path, FORM).read_text() == "id,label\na,cat\nb,cat\nc,dog\n"


def test_a_class_may_be_called_id(tmp_path: Path) -> None:
    """As in a folder per country or language: Indonesia's and Indonesian's code."""
    (tmp_path / "run.json").write_text("{}")
    likely = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    write_probabilities(tmp_path / "test.csv", probability_table(IDS, likely, ["id", "se"]))

    written = submission(tmp_path, replace(FORM, classes=("id", "se")))

    assert written.read_text() == "id,label\na,id\nb,id\nc,se\n"
