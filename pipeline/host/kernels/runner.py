"""Runs the queued versions, one after the other."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.artifacts import storage_errors
from pipeline.errors import PipelineError
from pipeline.host.catalog import definition
from pipeline.host.kernels import outputs, sandbox
from pipeline.host.kernels.inputs import Inputs, MissingInputError
from pipeline.host.kernels.limits import Limits, Watch
from pipeline.host.kernels.log import LogWriter
from pipeline.host.kernels.sandbox import Scratch, UnavailableError
from pipeline.host.kernels.store import Kernels, Version
from pipeline.host.scoring import Verdict, score_submission
from pipeline.host.state import State
from pipeline.host.submissions import MAX_SUBMISSION_BYTES, Submission, Submissions

_SECONDS_BETWEEN_LOOKS = 0.5


class SessionError(Exception):
    """The kernel failed, or was stopped; the message says how."""


class Runner:
    """Takes versions, and reruns of submitted ones, from their queues; each runs in a sandbox."""

    def __init__(
        self,
        state: State,
        kernels: Kernels,
        inputs: Inputs,
        submissions: Submissions,
        limits: Limits | None = None,
    ) -> None:
        self._state = state
        self._kernels = kernels
        self._inputs = inputs
        self._submissions = submissions
        self._limits = limits or Limits()
        self._queued = threading.Event()

    def start(self) -> None:
        """Run what is queued in a thread from now on; to be called by the one server only."""
        for ref in self._kernels.requeue_interrupted():
            outputs.remove(self._state.log(ref).parent)
        for left_over in self._state.sessions.iterdir():
            outputs.remove(left_over)
        # The sandboxes die with this thread, and so with the process, however it ends.
        threading.Thread(target=self._run_for_ever, daemon=True).start()
        self.wake()

    def wake(self) -> None:
        """Look at the queues."""
        self._queued.set()

    def run_queued(self) -> None:
        """Run what is in the queues."""
        while version := self._kernels.claim():
            self._kernels.finish(version, self._run(version))
        while rerun := self._submissions.next_rerun():
            submission, ref = rerun
            self._submissions.finish(submission.ref, self._rerun(submission, ref))

    def _run_for_ever(self) -> None:
        while True:
            self._queued.wait()
            self._queued.clear()
            self.run_queued()

    def _run(self, version: Version) -> str:
        """Run one version; return why it failed, or an empty text."""
        log = self._state.log(version.ref)

        def run(scratch: Scratch) -> None:
            log.parent.mkdir(mode=0o700)
            self._execute(version, self._inputs.folders(version), scratch, log)
            scratch.working.rename(self._state.output(version.ref))

        return self._failure_of(run)

    def _rerun(self, submission: Submission, ref: int) -> Verdict:
        """Run a submitted version on the hidden test set, and score what it writes.

        As on Kaggle, nobody gets to see the log: it might tell of that test set.
        """
        version, slug = self._kernels.get(ref), submission.competition
        verdict = Verdict()

        def run(scratch: Scratch) -> None:
            nonlocal verdict
            folders = self._inputs.folders_of_rerun(version, slug)
            self._execute(version, folders, scratch, scratch.folder / "log.jsonl")
            written = scratch.working / submission.file_name
            if not written.is_file():
                raise SessionError(f"it wrote no {submission.file_name}")
            if written.stat().st_size > MAX_SUBMISSION_BYTES:
                raise SessionError(f"it wrote more than {MAX_SUBMISSION_BYTES} bytes")
            solution = self._inputs.preparation.rerun(slug).solution()
            verdict = score_submission(written, definition(slug), solution)
            written.replace(self._submissions.blob(submission.blob))

        failure = self._failure_of(run)
        if failure:
            what = failure.partition(":")[0]
            return Verdict(error=f"The kernel failed on the hidden test set ({what})")
        return verdict

    def _failure_of(self, run: Callable[[Scratch], None]) -> str:
        """Call `run` with a scratch folder of its own; why it failed, or an empty text."""
        scratch = Scratch(folder=self._state.sessions / secrets.token_hex(8))
        try:
            with storage_errors(scratch.folder):
                run(scratch)
        except (SessionError, UnavailableError, MissingInputError, PipelineError) as err:
            return str(err)
        except Exception as err:
            # The queue must go on; the cause belongs to whoever runs the host.
            traceback.print_exc()
            return f"the host could not run the kernel: {err!r}"
        finally:
            outputs.remove(scratch.folder)
        return ""

    def _execute(
        self, version: Version, inputs: dict[Path, Path], scratch: Scratch, log_path: Path
    ) -> None:
        """Run the version's code; what it leaves in its working folder are plain files then."""
        code = version.settings.code_name
        limits = self._limits.shortened(version.settings.session_timeout_seconds)
        scratch.create(code, version.source)
        receiver, sender = os.pipe()
        with LogWriter(log_path) as log, open(receiver) as info:
            try:
                process = subprocess.Popen(
                    sandbox.command(scratch, code, inputs, limits, sender),
                    env={},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[sender],
                )
            finally:
                os.close(sender)
            _supervise(process, info.read(), limits, scratch.folder, log)
        outputs.keep_regular_files(scratch.working)


def _supervise(
    process: subprocess.Popen[bytes], info: str, limits: Limits, scratch: Path, log: LogWriter
) -> None:
    """Copy what the session prints, keep it within its limits, and wait for its end.

    `info` is what bubblewrap tells of the sandbox; empty where it could not make one.
    """
    readers = [
        threading.Thread(target=log.copy, args=("stdout", process.stdout)),
        threading.Thread(target=log.copy, args=("stderr", process.stderr)),
    ]
    for reader in readers:
        reader.start()
    exceeded = None
    if info:
        first_process = int(json.loads(info)["child-pid"])
        with _ended(first_process):
            exceeded = _wait(process, Watch(limits, first_process, scratch))
    for reader in readers:
        reader.join()
    if exceeded:
        log.write("stderr", f"The kernel was stopped: {exceeded}.\n")
        raise SessionError(f"the kernel was stopped: {exceeded}")
    if process.wait():
        raise SessionError(f"exit code {process.returncode}: {log.last_error}")


@contextmanager
def _ended(first_process: int) -> Iterator[None]:
    """On leaving, wait until no process of the namespace exists any more.

    The one that the host started and may wait for can end before those inside.
    """
    try:
        handle = os.pidfd_open(first_process)
    except ProcessLookupError:
        yield
        return
    try:
        yield
        select.select([handle], [], [])
    finally:
        os.close(handle)


def _wait(process: subprocess.Popen[bytes], watch: Watch) -> str | None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_BETWEEN_LOOKS)
            return None
        exceeded = watch.exceeded()
        if exceeded:
            process.kill()
            process.wait()
            return exceeded
