"""Submissions: upload, submit, look up, limits."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from starlette.exceptions import HTTPException

from pipeline.host.accounts import User
from pipeline.host.contests import Contest
from pipeline.host.kernels.outputs import OutputFile, output_files
from pipeline.host.kernels.store import Version
from pipeline.host.routes.competitions import SCORE_FORMAT, CompetitionName, CompetitionPage
from pipeline.host.services import Caller, HostServices, Services
from pipeline.host.submissions import (
    MAX_SUBMISSION_BYTES,
    LimitReachedError,
    Submission,
    UploadError,
)
from pipeline.host.wire import API, Message, base_url

_AT_MOST = f"at most {MAX_SUBMISSION_BYTES} are accepted"

router = APIRouter(prefix=f"{API}/competitions.CompetitionApiService")


class StartUpload(Message):
    """Announces a file of `content_length` bytes."""

    competition_name: str = ""
    content_length: int = 0
    file_name: str = "submission.csv"


class CreateSubmission(Message):
    """Submits an uploaded file."""

    competition_name: str = ""
    blob_file_tokens: str = ""
    submission_description: str | None = None


class CreateCodeSubmission(Message):
    """Submits a file of a kernel version's output."""

    competition_name: str = ""
    kernel_owner: str = ""
    kernel_slug: str = ""
    kernel_version: int = 0
    file_name: str = "submission.csv"
    submission_description: str | None = None


class SubmissionRef(Message):
    """Names a submission."""

    ref: int = 0


@router.post("/StartSubmissionUpload")
def start_submission_upload(
    body: StartUpload, request: Request, user: Caller, services: HostServices
) -> dict[str, str]:
    """Give out a link for one upload, unless the file could not be submitted anyway."""
    contest = services.prepared(body.competition_name)
    services.require_rules(user, contest)
    _refuse_file(contest)
    if services.submissions.usage(user, contest).remaining == 0:
        raise _limit_reached(contest)
    if body.content_length > MAX_SUBMISSION_BYTES:
        raise HTTPException(
            413,
            f"{body.file_name} has {body.content_length} bytes; {_AT_MOST}",
        )
    upload = services.submissions.open_upload(
        user, contest.slug, body.file_name, body.content_length
    )
    return {"token": upload.token, "createUrl": f"{base_url(request)}/blobs/{upload.token}"}


@router.post("/CreateSubmission")
def create_submission(
    body: CreateSubmission, user: Caller, services: HostServices, background: BackgroundTasks
) -> dict[str, Any]:
    """Accept an uploaded file; it is scored after the reply."""
    contest = services.prepared(body.competition_name)
    services.require_rules(user, contest)
    _refuse_file(contest)
    try:
        ref = services.submissions.submit(
            user, contest, body.blob_file_tokens, body.submission_description or ""
        )
    except LimitReachedError as err:
        raise _limit_reached(contest) from err
    except UploadError as err:
        raise HTTPException(400, str(err)) from err
    background.add_task(services.score_pending)
    return {"message": f"Successfully submitted to {contest.slug}", "ref": ref}


@router.post("/CreateCodeSubmission")
def create_code_submission(
    body: CreateCodeSubmission, user: Caller, services: HostServices, background: BackgroundTasks
) -> dict[str, Any]:
    """Submit what a kernel version wrote; a code competition first has it run again."""
    contest = services.prepared(body.competition_name)
    services.require_rules(user, contest)
    version = _submitted_version(body, user, services)
    file = _output_file(body, version, services)
    description = body.submission_description or ""
    try:
        ref = services.submissions.submit_copy(user, contest, file, description, version.ref)
    except LimitReachedError as err:
        raise _limit_reached(contest) from err
    services.runner.wake()
    background.add_task(services.score_pending)
    return {"message": f"Successfully submitted to {contest.slug}", "ref": ref}


def _submitted_version(body: CreateCodeSubmission, user: User, services: Services) -> Version:
    name = _name(body)
    version = services.kernels.find(
        user.name, body.kernel_owner, body.kernel_slug, body.kernel_version
    )
    if version is None or version.owner != user.name:
        raise HTTPException(404, f"you have no kernel {name}")
    if version.status != "COMPLETE":
        raise HTTPException(400, f"{name} is {version.status}, not COMPLETE, and has no output")
    if body.competition_name not in version.settings.competition_data_sources:
        raise HTTPException(
            400, f"{name} does not name '{body.competition_name}' in its competition_sources"
        )
    return version


def _name(body: CreateCodeSubmission) -> str:
    return f"{body.kernel_owner}/{body.kernel_slug} version {body.kernel_version}"


def _output_file(body: CreateCodeSubmission, version: Version, services: Services) -> OutputFile:
    files = {file.name: file for file in output_files(services.state.output(version.ref))}
    if body.file_name not in files:
        found = ", ".join(list(files)[:5]) or "nothing"
        raise HTTPException(
            400, f"{_name(body)} wrote no file {body.file_name!r}; it wrote {found}"
        )
    file = files[body.file_name]
    if file.size > MAX_SUBMISSION_BYTES:
        raise HTTPException(413, f"{file.name} has {file.size} bytes; {_AT_MOST}")
    return file


@router.post("/GetSubmission")
def get_submission(body: SubmissionRef, user: Caller, services: HostServices) -> dict[str, Any]:
    """One of the caller's own submissions."""
    submission = services.submissions.get(user, body.ref)
    if submission is None:
        raise HTTPException(404, f"you have no submission {body.ref}")
    return _describe(submission, services.contest(submission.competition))


@router.post("/ListSubmissions")
def list_submissions(body: CompetitionPage, user: Caller, services: HostServices) -> dict[str, Any]:
    """The caller's own submissions, newest first."""
    contest = services.contest(body.competition_name)
    shown, following = body.cut(services.submissions.of_user(user, contest.slug))
    return {"submissions": [_describe(s, contest) for s in shown], **following}


@router.post("/GetSubmissionLimits")
def get_submission_limits(
    body: CompetitionName, user: Caller, services: HostServices
) -> dict[str, Any]:
    """How many submissions the caller made, and may still make today."""
    usage = services.submissions.usage(user, services.contest(body.competition_name))
    return {
        "numToday": usage.today,
        "numTotal": usage.total,
        "numAllowedNow": usage.remaining,
        "limitedByTotal": False,
    }


def _refuse_file(contest: Contest) -> None:
    if contest.is_code:
        raise HTTPException(
            400,
            f"'{contest.slug}' is a code competition: submit a version of a kernel "
            "(make push VIA=kernel, or "
            "kaggle competitions submit -k OWNER/SLUG -v VERSION -f FILE)",
        )


def _limit_reached(contest: Contest) -> HTTPException:
    # Not 429: the client and what is built on it take that for a rate limit and try again.
    return HTTPException(
        400,
        f"the daily limit of {contest.daily_limit} submissions to '{contest.slug}' is reached; "
        "submit again after midnight UTC",
    )


def _describe(submission: Submission, contest: Contest) -> dict[str, Any]:
    described = {
        "ref": submission.ref,
        "fileName": submission.file_name,
        "date": submission.submitted_at,
        "description": submission.description,
        "status": submission.status,
        "submittedBy": submission.user,
        "teamName": submission.user,
        "errorDescription": submission.error,
    }
    if submission.public_score is not None:
        described["publicScore"] = SCORE_FORMAT.format(submission.public_score)
    if submission.private_score is not None and contest.show_private:
        described["privateScore"] = SCORE_FORMAT.format(submission.private_score)
    return described
