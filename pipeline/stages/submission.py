"""submission: the CSV in the form of the competition's sample, checked."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import read_json, write_whole
from pipeline.data.submission import SubmissionForm, check_submission, submission_csv
from pipeline.metrics.decisions import decision_of
from pipeline.stages.console import say
from pipeline.stages.predict import PREDICTIONS
from pipeline.training.run import RECORD
from pipeline.training.tables import read_probabilities

SUBMISSION = "submission.csv"


def submission(run: Path, form: SubmissionForm) -> Path:
    """The run's submission.csv, written from its test.csv unless it says the same already.

    Raises:
        SubmissionError: the file breaks a rule of the competition, or the predictions do not
            fit the test images; the file is named.
    """
    path, predictions = run / SUBMISSION, run / PREDICTIONS
    table = read_probabilities(predictions)
    decision = decision_of(read_json(run / RECORD), list(table.columns))
    content = submission_csv(form, table, decision, predictions)
    current = path.exists() and path.read_bytes() == content
    if not current:
        write_whole(path, content)
    check_submission(path, form)
    state = "up to date" if current else "done"
    say("submission", f"{state}: {path} (checked: {len(form.ids)} rows)")
    return path
