"""The submission: the form the competition wants, the CSV in it, and the check before upload."""

from pipeline.data.submission.check import check_submission, predictions_sha256
from pipeline.data.submission.form import SubmissionForm, read_form
from pipeline.data.submission.write import submission_csv

__all__ = [
    "SubmissionForm",
    "check_submission",
    "predictions_sha256",
    "read_form",
    "submission_csv",
]
