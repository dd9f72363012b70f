"""The client's verbs for kernels: pushed once, and failed where the client calls it a success."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.client.calls import Calls, is_refusal
from pipeline.client.credentials import scrub
from pipeline.client.failures import CallFailedError, Failure
from pipeline.errors import AccessError, ConfigError, CredentialsError, HostError, LimitError

METADATA = "kernel-metadata.json"
MOST_OUTPUT_FILES = 2_000
SHORTEST_SLUG = 5
_SECONDS_TO_APPEAR = 60.0

State = Literal[
    "QUEUED",
    "RUNNING",
    "COMPLETE",
    "ERROR",
    "CANCEL_REQUESTED",
    "CANCEL_ACKNOWLEDGED",
    "NEW_SCRIPT",
]


@dataclass(frozen=True, slots=True)
class KernelVersion:
    """A version of a kernel; `kernel` is owner/slug."""

    kernel: str
    version: int

    def __str__(self) -> str:
        return f"{self.kernel}/{self.version}"


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """How far a version has come; `message` is the host's word on a failure."""

    state: State
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in {"COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED"}


@dataclass(frozen=True, slots=True)
class Quota:
    """GPU seconds used and allowed this week, and when the count starts anew (UTC)."""

    used: float
    allowed: float
    refreshes_at: str | None

    @property
    def exhausted(self) -> bool:
        """Whether a kernel with a GPU would not be run."""
        return self.used >= self.allowed

    def __str__(self) -> str:
        return f"{self.used / 3600:.1f} of {self.allowed / 3600:.1f} GPU hours used"


class Kernels:
    """Kernels of one endpoint. A `kernel` is named owner/slug."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._host = calls.endpoint.title

    def owner(self) -> str:
        """The user that the credentials belong to.

        Raises:
            CredentialsError: they are refused, or tell no user.
        """
        with self._calls.errors("signing in"):
            name = self._calls.read("owner")
        if not name:
            raise CredentialsError(
                f"{self._host} does not tell whose the credentials are; set KAGGLE_USERNAME"
            )
        return str(name)

    def quota(self) -> Quota | None:
        """What is used of the week's GPU time; None where the host counts none."""
        with self._calls.errors("reading the GPU quota"):
            found = self._calls.read("quota")
        return Quota(**found) if found else None

    def push(self, folder: Path, *, marker: str, after: int) -> KernelVersion:
        """Save the kernel in `folder` as a new version, once; the host then runs it.

        `marker` is a text in the source that no other push has: when the answer is lost, the
        version is looked for by it among those after number `after`, and never saved again.

        Raises:
            ConfigError: the metadata or the source cannot be those of a kernel.
            AccessError: the host gives the kernel no access to one of its sources.
            LimitError: the GPU quota is used up.
            HostError: the host refused the kernel, or the outcome is not known.
        """
        kernel = _named_in(folder)
        with self._errors("the push", kernel):
            try:
                reply = self._calls.write("push_kernel", folder=str(folder))
            except CallFailedError as failed:
                if is_refusal(failed.failure):
                    raise
                found = self.pushed_version(kernel, marker, after=after)
                if found is None:
                    raise self._unknown(kernel, failed.failure) from None
                return found
        self._check_reply(kernel, reply)
        return KernelVersion(kernel, reply["version"])

    def pushed_version(self, kernel: str, marker: str, *, after: int) -> KernelVersion | None:
        """The version after number `after` whose source holds `marker`."""
        latest = self._find(kernel, None)
        if latest is None:
            return None
        for number in range(latest.version, after, -1):
            found = latest if number == latest.version else self._find(kernel, number)
            if found and marker in found.source:
                return KernelVersion(kernel, number)
        return None

    def latest_version(self, kernel: str) -> int:
        """The number of the kernel's latest version, 0 where there is no such kernel."""
        latest = self._find(kernel, None)
        return latest.version if latest else 0

    def status(self, pushed: KernelVersion) -> KernelStatus:
        """How far the version has come; one not found yet counts as queued for a minute."""
        deadline = time.monotonic() + _SECONDS_TO_APPEAR
        with self._errors(f"reading the status of {pushed}", pushed.kernel):
            while True:
                try:
                    return self._status(self._read("kernel_status", pushed))
                except CallFailedError as failed:
                    if failed.failure.status != 404 or time.monotonic() >= deadline:
                        raise
                    time.sleep(1.0)

    def output(
        self, pushed: KernelVersion, folder: Path, on_progress: Callable[[int], None]
    ) -> list[str]:
        """Save the output files of a version into `folder`; a part that is there is kept.

        `on_progress` is told the bytes in the folder now and then. Returns the files' names.

        Raises:
            HostError: a file cannot be had, or its name leads out of the folder.
        """

        def progress() -> int:
            received = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            on_progress(received)
            return received

        arguments = {"folder": str(folder), "most": MOST_OUTPUT_FILES}
        with self._errors(f"fetching the output of {pushed}", pushed.kernel):
            names = self._read("kernel_output", pushed, progress, **arguments)
            return [str(name) for name in names]

    def log(self, pushed: KernelVersion) -> str:
        """The log of a version that has ended, as plain text."""
        with self._errors(f"reading the log of {pushed}", pushed.kernel):
            return self._clean(_plain(self._read("kernel_log", pushed)))

    def follow_log(self, pushed: KernelVersion, seen: int) -> list[str]:
        """What was added to the log of the latest version, `pushed`, after its first `seen` events.

        Does not wait for more.
        """
        with self._errors(f"following the log of {pushed}", pushed.kernel):
            texts = self._read("follow_kernel_log", pushed, seen=seen)
        return [self._clean(text) for text in texts]

    def _find(self, kernel: str, version: int | None) -> _Source | None:
        with self._errors(f"looking for {kernel}", kernel):
            try:
                found = self._calls.read("kernel", kernel=kernel, version=version)
            except CallFailedError as failed:
                # Kaggle refuses to say whether a private kernel that is not there exists.
                if failed.failure.status in {403, 404}:
                    return None
                raise
        return _Source(int(found["version"]), str(found["source"]))

    def _check_reply(self, kernel: str, reply: dict[str, Any]) -> None:
        """The client takes a reply with an error in it for a success."""
        if reply["error"]:
            raise HostError(
                f"{self._host} did not take {kernel}: {self._clean(reply['error'])}; "
                "nothing runs there, mend it and rerun"
            )
        if refused := reply["refused_sources"]:
            raise AccessError(
                f"{self._host} attached {len(refused)} sources of {kernel} not, first "
                f"{refused[0]!r}; accept the competition's rules there, check the names in "
                f"{METADATA} and rerun with FORCE=1"
            )
        if not reply["version"]:
            raise HostError(f"{self._host} gave {kernel} no version; look at its pages and rerun")

    def _unknown(self, kernel: str, failure: Failure) -> HostError:
        return HostError(
            f"{self._host}: the push failed ({failure}) and {kernel} has no version of it; "
            "rerun: it is looked for again before anything is pushed"
        )

    def _read(
        self,
        operation: str,
        pushed: KernelVersion,
        progress: Callable[[], int] | None = None,
        **arguments: Any,
    ) -> Any:
        return self._calls.read(
            operation, progress, kernel=pushed.kernel, version=pushed.version, **arguments
        )

    def _status(self, values: dict[str, Any]) -> KernelStatus:
        return KernelStatus(values["state"], self._clean(values["message"]))

    def _clean(self, text: str) -> str:
        return scrub(text, self._calls.endpoint.environment)

    @contextmanager
    def _errors(self, doing: str, kernel: str) -> Iterator[None]:
        """As `Calls.errors`, with what a refusal means for a kernel."""
        with self._calls.errors(doing):
            try:
                yield
            except CallFailedError as failed:
                failure = failed.failure
                if failure.status in {400, 403, 429} and "quota" in failure.message.lower():
                    raise LimitError(
                        f"{self._host}: {doing} was refused ({failure}); rerun when the quota is "
                        "refreshed"
                    ) from None
                if failure.status == 403:
                    raise AccessError(
                        f"{self._host}: {doing} was refused ({failure}); accept the rules of the "
                        f"competition, see that {kernel} is yours, and rerun"
                    ) from None
                raise


@dataclass(frozen=True, slots=True)
class _Source:
    version: int
    source: str


def _named_in(folder: Path) -> str:
    """The owner/slug that a folder's metadata names.

    Raises:
        ConfigError: it names none, or one that Kaggle does not take.
    """
    try:
        kernel = json.loads((folder / METADATA).read_text())["id"]
        _, slug = kernel.split("/")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(
            f"{folder / METADATA} names no kernel ({err}); write its id as owner/slug"
        ) from err
    if len(slug) < SHORTEST_SLUG:
        raise ConfigError(
            f"the kernel's slug {slug!r} has {len(slug)} characters, Kaggle wants at least "
            f"{SHORTEST_SLUG}; choose a longer one"
        )
    return str(kernel)


def _plain(log: str) -> str:
    """Kaggle stores a log as JSON events; a reader wants their text."""
    try:
        events = json.loads(log)
        return "".join(event["data"] for event in events)
    except (ValueError, TypeError, KeyError):
        return log
