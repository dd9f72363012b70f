"""submission: the CSV in the form of the competition's sample, checked."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import write_whole
from pipeline.data.submission import SubmissionForm, check_submission, submission_csv
from pipeline.stages.console import say
from pipeline.stages.predict import PREDICTIONS
from pipeline.training.tables import read_probabilities

SUBMISSION = "submission.csv"


def submission(run: Path, form: SubmissionForm) -> Path:
    """The run's submission.csv, written from its test.csv unless it says the same already.

    Raises:
        SubmissionError: the file breaks a rule of the competition, or the predictions do not
            fit the test images; the file is named.
    """
    path, predictions = run / SUBMISSION, run / PREDICTIONS
    content = submission_csv(form, read_probabilities(predictions), predictions)
    current = path.exists() and path.read_bytes() == content
    if not current:
        write_whole(path, content)
    check_submission(path, form)
    state = "up to date" if current else "done"
    say("submission", f"{state}: {path} (checked: {len(form.ids)} rows)")
    return path
