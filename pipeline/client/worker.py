"""The child process in which the official kaggle client runs.

Reads one JSON request a line on standard input, writes one JSON reply a line on standard output:
{"result": ...} or {"failure": {"kind", "status", "message", "retry_after", "errno"}}. The client
prints to standard output, so that is moved to standard error before it is imported.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import IO, Any

from pipeline.client.worker_api import signed_in_api
from pipeline.client.worker_datasets import OPERATIONS as DATASET_OPERATIONS
from pipeline.client.worker_kernels import OPERATIONS as KERNEL_OPERATIONS

PAGE_SIZE = 200


def list_files(competition: str, most: int) -> list[dict[str, Any]]:
    """Names and sizes of the competition's files, at most `most` of them."""
    files: list[dict[str, Any]] = []
    token = ""
    while True:
        page = signed_in_api().competition_list_files(competition, token, PAGE_SIZE)
        files += [{"name": file.name, "size": file.total_bytes} for file in page.files]
        token = page.next_page_token
        if not token or len(files) >= most:
            return files[:most]


def download_files(competition: str, folder: str) -> None:
    """Save all files of the competition as one archive in `folder`."""
    signed_in_api().competition_download_files(competition, path=folder, quiet=True)


def get_limits(competition: str) -> dict[str, int]:
    """How many submissions were made and are still allowed."""
    limits = signed_in_api().competition_get_submission_limits(competition)
    return {
        "today": limits.num_today,
        "total": limits.num_total,
        "allowed_now": limits.num_allowed_now,
    }


def submit_file(competition: str, path: str, message: str) -> int:
    """Upload a submission; 0 where the client says that the upload failed."""
    reply = signed_in_api().competition_submit(path, message, competition, quiet=True)
    return int(reply.ref or 0)


def submit_kernel(competition: str, kernel: str, version: int, file: str, message: str) -> int:
    """Submit what a kernel's version writes; 0 where the client says that it was not taken."""
    reply = signed_in_api().competition_submit_code(
        file, message, competition, kernel, version, quiet=True
    )
    return int(reply.ref or 0)


def get_submission(ref: int) -> dict[str, Any]:
    """One submission as the host has it."""
    from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest

    request = ApiGetSubmissionRequest()
    request.ref = ref
    with signed_in_api().build_kaggle_client() as client:
        return _plain(client.competitions.competition_api_client.get_submission(request))


def list_submissions(competition: str) -> list[dict[str, Any]]:
    """The latest submissions to the competition, newest first."""
    found = signed_in_api().competition_submissions(competition, page_size=PAGE_SIZE)
    return [_plain(submission) for submission in found or []]


def _plain(submission: Any) -> dict[str, Any]:
    return {
        "ref": submission.ref,
        "status": submission.status.name,
        "description": submission.description,
        "error": submission.error_description,
        "public_score": submission.public_score,
        "private_score": submission.private_score,
        "date": submission.date.isoformat(timespec="seconds") if submission.date else None,
    }


OPERATIONS: dict[str, Callable[..., Any]] = {
    "files": list_files,
    "download": download_files,
    "limits": get_limits,
    "submit": submit_file,
    "submit_kernel": submit_kernel,
    "submission": get_submission,
    "submissions": list_submissions,
    **DATASET_OPERATIONS,
    **KERNEL_OPERATIONS,
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run one request. Whatever goes wrong becomes a failure that the parent can act on."""
    try:
        return {"result": OPERATIONS[request["operation"]](**request["arguments"])}
    except SystemExit:  # how the client says that no credentials were found or accepted
        return {"failure": {"kind": "credentials"}}
    except Exception as err:
        return {"failure": describe(err)}


def describe(err: Exception) -> dict[str, Any]:
    """What the parent needs to know of an exception, without URLs, which may be signed."""
    import requests

    if isinstance(err, ImportError):
        return {"kind": "import", "message": str(err)}
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return _describe_response(err.response)
    if isinstance(err, ValueError):  # also a request's: an answer that is not JSON
        return {"kind": "protocol", "message": f"{type(err).__name__}: {err}"}
    if isinstance(err, requests.RequestException | ConnectionError | TimeoutError):
        return {"kind": "connection", "message": _root_cause(err)}
    if isinstance(err, OSError):
        return {"kind": "storage", "errno": err.errno, "message": err.strerror or str(err)}
    return {"kind": "protocol", "message": f"{type(err).__name__}: {err}"}


def _describe_response(response: Any) -> dict[str, Any]:
    status = response.status_code
    message = response.reason or ""
    try:
        body = response.json()
        message = str(body.get("message") or body["error"]["message"])
        # An error code inside a body that came with status 200 is an error all the same.
        status = body.get("code", status) if status < 400 else status
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # not JSON, or without a message: the status line says it
    retry_after = _seconds(response.headers.get("Retry-After"))
    return {"kind": "http", "status": status, "message": message, "retry_after": retry_after}


def _seconds(retry_after: str | None) -> float | None:
    """The header as seconds from now; it is a number or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _root_cause(err: BaseException) -> str:
    while err.__context__ is not None:
        err = err.__context__
    return getattr(err, "strerror", None) or type(err).__name__


def read_requests(lines: IO[bytes]) -> SimpleQueue[bytes]:
    """Queue the requests as they come, and end this process at once when the parent is gone."""
    requests: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in lines:
            requests.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return requests


def main() -> None:
    """Answer requests until standard input closes."""
    incoming = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # The client leaves by `exit()`, which closes sys.stdin and would wait for a reader of it.
    sys.stdin = open(os.devnull)  # noqa: SIM115 (as long as the process)
    requests = read_requests(incoming)
    while True:
        reply = answer(json.loads(requests.get()))
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
