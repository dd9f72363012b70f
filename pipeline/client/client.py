"""The verbs of the official kaggle client, checked: what a host says is not taken for granted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pipeline.client.calls import UPLOAD_BYTES_PER_SECOND, Calls, is_refusal
from pipeline.client.credentials import scrub
from pipeline.client.datasets import Datasets
from pipeline.client.endpoint import Endpoint
from pipeline.client.failures import CallFailedError, Failure
from pipeline.client.kernels import Kernels, KernelVersion
from pipeline.client.retries import is_rate_limited
from pipeline.errors import DataError, HostError, LimitError

MOST_LISTED_FILES = 4_000
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_SECONDS_TO_APPEAR = 60.0

Status = Literal["PENDING", "COMPLETE", "ERROR"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a competition: its path in the competition's archive and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Submissions made today (UTC) and ever, and how many more are allowed today."""

    today: int
    total: int
    allowed_now: int

    @property
    def exhausted(self) -> bool:
        """Whether the next submission would be refused.

        All zero is what Kaggle says of a user who has not submitted yet.
        """
        return self.allowed_now == 0 and (self.today > 0 or self.total > 0)

    def __str__(self) -> str:
        if not self.today and not self.total and not self.allowed_now:
            return "the daily limit is told with the first submission"
        if not self.allowed_now:  # the limit may have been lowered below what was made
            return f"no submission left today, {self.today} made"
        return f"{self.allowed_now} of {self.allowed_now + self.today} submissions left today"


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A submission as the host has it. A score is None where the host does not tell it."""

    ref: int
    status: Status
    description: str
    error: str
    public_score: float | None
    private_score: float | None
    submitted_at: str | None


class KaggleClient:
    """Calls the official client for one endpoint; a context manager that ends its child process.

    `timeout` is how many seconds a call may take, or a transfer may stand still.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 120.0) -> None:
        self.endpoint = endpoint
        self._calls = Calls(endpoint, timeout)
        self.kernels = Kernels(self._calls)
        self.datasets = Datasets(self._calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.close()

    def files(self, competition: str) -> list[RemoteFile]:
        """The competition's files, the first `MOST_LISTED_FILES` of them."""
        with self._calls.errors("listing the files", competition):
            found = self._calls.read("files", competition=competition, most=MOST_LISTED_FILES)
            return [RemoteFile(file["name"], int(file["size"])) for file in found]

    def download(
        self, competition: str, folder: Path, on_progress: Callable[[int], None] = lambda _: None
    ) -> Path:
        """Download the competition's archive into `folder`; a part left there is continued.

        `on_progress` is told the bytes in the folder now and then.

        Raises:
            DataError: the host sent something that is not the archive.
        """

        def progress() -> int:
            received = sum(_size_of(file) for file in folder.glob("*"))
            on_progress(received)
            return received

        archive = folder / f"{competition}.zip"
        with self._calls.errors("the download", competition):
            try:
                self._calls.read("download", progress, competition=competition, folder=str(folder))
            except CallFailedError as failed:
                if failed.failure.kind != "protocol":
                    raise
                raise DataError(
                    f"{self.endpoint.title} sent a damaged {archive.name} ({failed}); rerun"
                ) from None
        if not archive.is_file():
            raise DataError(
                f"{self.endpoint.title} sent no {archive.name} for {competition!r}; "
                "rerun, or put the files into the raw folder by hand"
            )
        return archive

    def limits(self, competition: str) -> Limits:
        """How many submissions are left."""
        with self._calls.errors("reading the submission limit", competition):
            return Limits(**self._calls.read("limits", competition=competition))

    def submissions(self, competition: str) -> list[Submission]:
        """The latest submissions to the competition, newest first."""
        with self._calls.errors("listing the submissions", competition):
            found = self._calls.read("submissions", competition=competition)
            return [self._submission(values) for values in found]

    def submission(self, ref: int) -> Submission:
        """One submission.

        Raises:
            HostError: the host does not know it.
        """
        found = self._look_up(ref)
        if found is None:
            raise HostError(f"{self.endpoint.title} has no submission {ref}; see its list there")
        return found

    def wait_for_score(self, ref: int, *, patience: float) -> Submission:
        """Look at a submission until it is scored; still PENDING after `patience` seconds.

        Raises:
            HostError: the host does not know it.
        """
        start, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            # A submission just made may not be found yet; the host has a minute to find it.
            waited = time.monotonic() - start
            found = self._look_up(ref) if waited < _SECONDS_TO_APPEAR else self.submission(ref)
            if found and (found.status != "PENDING" or waited >= patience):
                return found
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)

    def submit(self, competition: str, csv: Path, message: str) -> int:
        """Upload a submission once and return its number.

        `message` becomes its description and must be of this upload alone: when the answer is
        lost, the submission is looked for under it, and never sent a second time.

        Raises:
            LimitError: no submission is left today.
            HostError: the upload failed, or its outcome is not known.
        """
        upload_seconds = csv.stat().st_size / UPLOAD_BYTES_PER_SECOND
        arguments = {"path": str(csv), "more_seconds": upload_seconds}
        return self._submit("submit", competition, message, arguments)

    def submit_kernel(
        self, competition: str, kernel: KernelVersion, file: str, message: str
    ) -> int:
        """Submit the file of that name which a kernel's version writes, once; as `submit`."""
        arguments = {"kernel": kernel.kernel, "version": kernel.version, "file": file}
        return self._submit("submit_kernel", competition, message, arguments)

    def _submit(
        self, operation: str, competition: str, message: str, arguments: dict[str, Any]
    ) -> int:
        known = {submission.ref for submission in self.submissions(competition)}
        with self._calls.errors("the upload", competition):
            try:
                ref: int = self._calls.write(
                    operation,
                    competition=competition,
                    message=message,
                    worth_retrying=lambda err: (
                        is_rate_limited(err) and not self.limits(competition).exhausted
                    ),
                    **arguments,
                )
                failure = Failure("protocol", "the file was not taken")
            except CallFailedError as failed:
                ref, failure = 0, failed.failure
            return ref or self._find(competition, message, known, failure)

    def _find(self, competition: str, message: str, known: set[int], failure: Failure) -> int:
        """The submission made by a call that seemed to fail.

        Raises:
            CallFailedError: the host refused it.
            LimitError: the host refused it, because none is left today.
            HostError: the host does not list it.
        """
        if failure.kind == "http" and failure.status in {400, 403, 429}:
            self._refuse_if_exhausted(competition, failure)
        if is_refusal(failure):
            raise CallFailedError(failure)
        for submission in self.submissions(competition):
            if submission.ref not in known and submission.description == message:
                return submission.ref
        raise HostError(
            f"{self.endpoint.title}: the upload failed ({failure}) and the submission is not in "
            "the host's list; rerun: the list is read again before anything is sent"
        )

    def _refuse_if_exhausted(self, competition: str, failure: Failure) -> None:
        limits = self.limits(competition)
        if limits.exhausted:
            raise LimitError(
                f"{self.endpoint.title}: {competition!r} takes no more submissions today "
                f"({limits}; {failure}); rerun after midnight UTC"
            )

    def _look_up(self, ref: int) -> Submission | None:
        with self._calls.errors(f"reading submission {ref}"):
            try:
                found = self._submission(self._calls.read("submission", ref=ref))
            except CallFailedError as failed:
                if failed.failure.status == 404:
                    return None
                raise
        if found.ref != ref:
            raise HostError(
                f"{self.endpoint.title} was asked for submission {ref} and sent {found.ref}; "
                "rerun later"
            )
        return found

    def _submission(self, values: dict[str, Any]) -> Submission:
        return Submission(
            ref=int(values["ref"]),
            status=values["status"],
            description=values["description"] or "",
            error=scrub(values["error"] or "", self.endpoint.environment),
            public_score=_score(values["public_score"]),
            private_score=_score(values["private_score"]),
            # The client drops the zone; the host's times are UTC.
            submitted_at=f"{values['date']}Z" if values["date"] else None,
        )


def _size_of(path: Path) -> int:
    """0 where the client removed the file just now, as it does with its note of a part."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _score(text: str | None) -> float | None:
    """Scores travel as text, empty where the host does not tell."""
    try:
        return float(text) if text else None
    except ValueError:
        raise HostError(f"the host sent {text!r} as a score; look at its own pages") from None
