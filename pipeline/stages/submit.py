"""submit: upload a run's submission.csv once, wait for its score, and keep the ledger true.

A crash or a full disk may fall between the upload and its line in the ledger. So the description
of an upload carries the run and the file's hash, and before any upload the host's list is read:
what is there and not in the ledger is written down first. A note that lies from before the upload
until the ledger has its line makes sure that the list is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts import read_json, sha256_of
from pipeline.client.client import KaggleClient, Submission
from pipeline.client.kernels import KernelVersion
from pipeline.client.ledger import Ledger, Upload, find_upload, now
from pipeline.competition import Competition
from pipeline.data.submission import SubmissionForm, check_submission, predictions_sha256
from pipeline.errors import HostError, LimitError
from pipeline.reading import read_errors
from pipeline.stages.console import say
from pipeline.stages.hosts import choose_host, open_client
from pipeline.stages.upload_note import UploadNote
from pipeline.workspace import Workspace

Via = Literal["file", "kernel"]

_DESCRIPTION = re.compile(r"(?P<run>\S+) sha256:(?P<sha256>[0-9a-f]{16})")
_AT_ONCE_SECONDS = 5.0
_PATIENCE_SECONDS = 30 * 60.0
_RERUN_PATIENCE_SECONDS = 12 * 3600.0  # a code competition runs the kernel again to score it


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A run's submission file and what the ledger says of it."""

    competition: str
    run: str
    csv: Path
    file_sha256: str
    predictions_sha256: str
    cv_mean: float
    cv_std: float
    commit: str | None
    kernel: KernelVersion | None

    @property
    def description(self) -> str:
        return f"{self.run} sha256:{self.file_sha256[:16]}"


def submit(
    workspace: Workspace,
    competition: Competition,
    form: SubmissionForm,
    run: Path,
    host: str,
    *,
    force: bool = False,
) -> None:
    """Upload the run's submission.csv unless the host has it, and record its score.

    The same bytes, or the same predictions, are uploaded to a host once; `force` uploads again.

    Raises:
        SubmissionError: the file breaks a rule of the competition; nothing was uploaded.
        StorageError: the ledger cannot be written; nothing was uploaded.
        LimitError: no submission is left today; nothing was uploaded.
        HostError: the host failed, did not score in time, or could not score the file.
        ConfigError, CredentialsError, AccessError: the host cannot be used.
    """
    candidate = read_candidate(competition.slug, run, form)
    earlier = uploaded_as(workspace, candidate, choose_host(host).instance)
    if earlier and not force and _is_settled(workspace, earlier):
        _say_why_not(earlier, candidate)
        return
    check_submission(candidate.csv, form)
    with open_client(host, competition.slug) as client:
        submit_run(client, workspace, form, candidate, force=force)


def submit_run(
    client: KaggleClient,
    workspace: Workspace,
    form: SubmissionForm,
    candidate: Candidate,
    *,
    force: bool = False,
    via: Via = "file",
) -> None:
    """As `submit`, of a checked file with an open client; `via` kernel submits its version."""
    ledger = Ledger(workspace.ledger)
    note = UploadNote(workspace, candidate.competition, client.endpoint.instance)
    runs = workspace.runs(candidate.competition)
    mended = _mend(client, ledger, runs, form, candidate.competition)
    note.remove()
    earlier = uploaded_as(workspace, candidate, client.endpoint.instance)
    # An upload that was only just found is the one that a crash interrupted, forced or not.
    if earlier and (earlier in mended or not force):
        _say_why_not(_completed(client, ledger, earlier, via), candidate)
    else:
        upload = _upload(client, ledger, note, candidate, via)
        _say_score(_completed(client, ledger, upload, via))


def read_candidate(competition: str, run: Path, form: SubmissionForm) -> Candidate:
    """A run folder's submission file, and the run's record."""
    csv = run / "submission.csv"
    with read_errors(run):
        made: dict[str, Any] = read_json(run / "run.json")
        file_sha256 = sha256_of(csv)
    return Candidate(
        competition=competition,
        run=made["run"],
        csv=csv,
        file_sha256=file_sha256,
        predictions_sha256=predictions_sha256(csv, form),
        cv_mean=made["cv"]["mean"],
        cv_std=made["cv"]["std"],
        commit=made["commit"],
        kernel=KernelVersion(**made["kernel"]) if "kernel" in made else None,
    )


def uploaded_as(workspace: Workspace, candidate: Candidate, instance: str | None) -> Upload | None:
    """The ledger's last upload of the same file or predictions to the host `instance`."""
    if instance is None:
        return None
    uploads = [
        upload
        for upload in Ledger(workspace.ledger).uploads()
        if upload.competition == candidate.competition
    ]
    return find_upload(
        uploads,
        instance=instance,
        file_sha256=candidate.file_sha256,
        predictions_sha256=candidate.predictions_sha256,
    )


def _is_settled(workspace: Workspace, upload: Upload) -> bool:
    """Whether the ledger knows the upload's score, and no later upload went unrecorded."""
    note = UploadNote(workspace, upload.competition, upload.instance)
    return upload.status != "PENDING" and not note.exists()


def _say_why_not(earlier: Upload, candidate: Candidate) -> None:
    """Say that nothing is uploaded, and why.

    Raises:
        HostError: the earlier upload could not be scored.
    """
    same = "file" if earlier.file_sha256 == candidate.file_sha256 else "predictions, other bytes"
    if earlier.status == "ERROR":
        raise HostError(
            f"nothing uploaded: the same {same} went up as submission {earlier.ref} and could not "
            f"be scored ({earlier.error}); FORCE=1 uploads again"
        )
    say(
        "submit",
        f"up to date, nothing uploaded: the same {same} went up as submission {earlier.ref} on "
        f"{earlier.submitted_at} ({_scores(earlier)}); FORCE=1 uploads again",
    )


def _mend(
    client: KaggleClient, ledger: Ledger, runs: Path, form: SubmissionForm, competition: str
) -> list[Upload]:
    """Write down every upload of a run of this checkout that the ledger does not have."""
    recorded = {(upload.instance, upload.ref) for upload in ledger.uploads()}
    mended = []
    for submission in reversed(client.submissions(competition)):
        if (client.endpoint.instance, submission.ref) in recorded:
            continue
        candidate = _candidate_described(submission.description, runs, form, competition)
        if candidate:
            upload = _with_score(_record(client, candidate, submission.ref), submission)
            ledger.append(upload)
            mended.append(upload)
            say("submit", f"submission {upload.ref} ({upload.run}) was not in the ledger: added")
    return mended


def _candidate_described(
    description: str, runs: Path, form: SubmissionForm, competition: str
) -> Candidate | None:
    """The run that the description names, if its file is still the one that was uploaded."""
    described = _DESCRIPTION.fullmatch(description)
    folders = {folder.name: folder for folder in runs.glob("*") if folder.is_dir()}
    run = folders.get(described["run"]) if described else None
    if run is None or not (run / "submission.csv").is_file():
        return None
    candidate = read_candidate(competition, run, form)
    return candidate if candidate.description == description else None


def _upload(
    client: KaggleClient, ledger: Ledger, note: UploadNote, candidate: Candidate, via: Via
) -> Upload:
    limits = client.limits(candidate.competition)
    say("submit", str(limits))
    if limits.exhausted:
        raise LimitError(
            f"{client.endpoint.title}: {candidate.competition!r} takes no more submissions today "
            f"({limits}); nothing was uploaded, rerun after midnight UTC"
        )
    note.write(candidate.description)
    ref = _send(client, candidate, via)
    upload = _record(client, candidate, ref)
    say("submit", f"uploaded as submission {ref}, waiting for its score")
    try:
        upload = _with_score(upload, client.wait_for_score(ref, patience=_AT_ONCE_SECONDS))
    finally:
        ledger.append(upload)
        note.remove()
    return upload


def _send(client: KaggleClient, candidate: Candidate, via: Via) -> int:
    if via == "file":
        return client.submit(candidate.competition, candidate.csv, candidate.description)
    if candidate.kernel is None:
        raise AssertionError("only what a kernel made is submitted by kernel")
    file = candidate.csv.name
    return client.submit_kernel(
        candidate.competition, candidate.kernel, file, candidate.description
    )


def _record(client: KaggleClient, candidate: Candidate, ref: int) -> Upload:
    return Upload(
        competition=candidate.competition,
        run=candidate.run,
        file_sha256=candidate.file_sha256,
        predictions_sha256=candidate.predictions_sha256,
        cv_mean=candidate.cv_mean,
        cv_std=candidate.cv_std,
        public_score=None,
        private_score=None,
        host=client.endpoint.name,
        instance=client.endpoint.instance,
        ref=ref,
        commit=candidate.commit,
        submitted_at=now(),
        status="PENDING",
        kernel=str(candidate.kernel) if candidate.kernel else None,
    )


def _with_score(upload: Upload, submission: Submission) -> Upload:
    return replace(
        upload,
        status=submission.status,
        public_score=submission.public_score,
        private_score=submission.private_score,
        error=submission.error or None,
        submitted_at=submission.submitted_at or upload.submitted_at,
    )


def _completed(client: KaggleClient, ledger: Ledger, upload: Upload, via: Via) -> Upload:
    """The upload with the host's verdict; waits for it where it is not there yet.

    Raises:
        HostError: the host has not scored the file in time.
    """
    if upload.status != "PENDING":
        return upload
    patience = _PATIENCE_SECONDS if via == "file" else _RERUN_PATIENCE_SECONDS
    found = client.wait_for_score(upload.ref, patience=patience)
    if found.status == "PENDING":
        raise HostError(
            f"{client.endpoint.title}: submission {upload.ref} has no score after "
            f"{patience / 60:.0f} minutes; rerun later, nothing is uploaded again"
        )
    upload = _with_score(upload, found)
    ledger.append(upload)
    return upload


def _say_score(upload: Upload) -> None:
    """Print what the upload achieved.

    Raises:
        HostError: the host could not score it.
    """
    if upload.status == "ERROR":
        raise HostError(
            f"submission {upload.ref} to {upload.competition!r} could not be scored: "
            f"{upload.error or 'the host gives no reason'}; correct the file and rerun"
        )
    cv = f"cross-validation {upload.cv_mean:.4f} ± {upload.cv_std:.4f}"
    say("submit", f"submission {upload.ref}: {_scores(upload)}, {cv}")


def _scores(upload: Upload) -> str:
    return ", ".join(
        f"{name} {'not told' if score is None else format(score, '.4f')}"
        for name, score in (("public", upload.public_score), ("private", upload.private_score))
    )
