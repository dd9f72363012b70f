"""The parent's side of the worker: one child process, killed when it does not answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import pipeline
from pipeline.client.credentials import scrub
from pipeline.client.failures import CallFailedError, Failure

# Off the path again before the client is imported: no module here may stand in for one of its own.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from pipeline.client.worker import main; "
    "del sys.path[0]; main()"
)
_ROOT = str(Path(pipeline.__path__[0]).parent)
_POLL_SECONDS = 0.5
_LONGEST_MESSAGE = 300

Reply = dict[str, Any]


class WorkerProcess:
    """Runs the worker with `environment`, started at the first call and again after a failure."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._child: _Child | None = None

    def call(
        self,
        operation: str,
        arguments: dict[str, Any],
        *,
        timeout: float,
        progress: Callable[[], int] | None = None,
    ) -> Any:
        """One call of the client.

        It may take `timeout` seconds; where `progress` is given, `timeout` seconds in which the
        number it returns does not change.

        Raises:
            CallFailedError: the client failed, died or did not answer; the text holds no secret.
        """
        if self._child is None:
            self._child = _Child(self._environment)
        self._child.send({"operation": operation, "arguments": arguments})
        try:
            reply = self._child.receive(timeout, progress)
        except Empty:
            self.close()
            failure = Failure("timeout", f"no answer for {timeout:.0f} s")
            raise CallFailedError(failure) from None
        except EOFError:
            raise CallFailedError(Failure("died", self._clean(self._stop()))) from None
        except BaseException:
            # Ctrl-C: a half-finished call must not answer the next request.
            self.close()
            raise
        if "failure" in reply:
            failure = Failure(**reply["failure"])
            raise CallFailedError(failure.with_message(self._clean(failure.message)))
        return reply["result"]

    def close(self) -> None:
        """End the child, if there is one."""
        self._stop()

    def _stop(self) -> str:
        child, self._child = self._child, None
        return child.stop() if child else ""

    def _clean(self, text: str) -> str:
        """One line without secrets."""
        return " ".join(scrub(text, self._environment).split())[:_LONGEST_MESSAGE]


class _Child:
    """A running worker. A thread queues its replies, so that waiting for one can time out."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _ROOT],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._replies: SimpleQueue[Reply | None] = SimpleQueue()
        self._last_line = ""
        self._readers = [self._start(self._read_replies), self._start(self._read_errors)]

    def send(self, request: dict[str, Any]) -> None:
        """Write one request; a child that is gone is noticed by `receive`."""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=_pipe(self._process.stdin), flush=True)

    def receive(self, timeout: float, progress: Callable[[], int] | None) -> Reply:
        """The next reply.

        Raises:
            queue.Empty: none came in time.
            EOFError: the child ended.
        """
        seen, deadline = None, time.monotonic() + timeout
        while True:
            try:
                reply = self._replies.get(timeout=min(_POLL_SECONDS, timeout))
            except Empty:
                if progress and (now := progress()) != seen:
                    seen, deadline = now, time.monotonic() + timeout
                if time.monotonic() >= deadline:
                    raise
                continue
            if reply is None:
                raise EOFError
            return reply

    def stop(self) -> str:
        """Kill the child; returns the last line that it printed."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()
        return self._last_line

    def _start(self, read: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _read_replies(self) -> None:
        try:
            for line in _pipe(self._process.stdout):
                self._replies.put(json.loads(line))
        finally:
            self._replies.put(None)

    def _read_errors(self) -> None:
        # Read all along, so that a talkative client never blocks on a full pipe.
        for line in _pipe(self._process.stderr):
            self._last_line = line.strip() or self._last_line


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise AssertionError("the child was started with pipes")
    return pipe
