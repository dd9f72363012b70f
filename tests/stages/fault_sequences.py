"""One checkout's download and submission over a network that fails, and what must hold after it."""

from __future__ import annotations

import json
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import stamina

from pipeline.artifacts import sha256_of, verify_manifest
from pipeline.client import client as client_module
from pipeline.client.client import KaggleClient
from pipeline.client.endpoint import local_endpoint
from pipeline.competition import Competition, load_competition
from pipeline.data.layouts import read_layout
from pipeline.data.submission import SubmissionForm, read_form
from pipeline.errors import PipelineError
from pipeline.host.accounts import Accounts
from pipeline.host.contests import Contests
from pipeline.host.database import Database
from pipeline.host.lifecycle import HostAddress, local_host
from pipeline.host.state import STATE_VARIABLE, State
from pipeline.host.submissions import Submission, Submissions
from pipeline.stages import hosts
from pipeline.stages.download import download
from pipeline.stages.submit import submit
from pipeline.stages.upload_note import UploadNote
from pipeline.workspace import Workspace
from tests.client.fault_proxy import FaultProxy, Schedule
from tests.client.fault_server import serving
from tests.stages.stand_in import host_of

SLUG = "digits"
LONGEST_SECONDS = 300
# Python imports a module of this name when it starts. The client waits as often as in earnest.
_SHORT_PAUSES = (
    "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(seconds / 200)\n"
)


@dataclass(frozen=True)
class Network:
    """The real host, the proxy before it, and what a submission to its competition looks like."""

    proxy: FaultProxy
    address: HostAddress
    state: State
    competition: Competition
    form: SubmissionForm

    def served(self) -> dict[str, str]:
        """SHA-256 of every file of the competition, from the host's own archive."""
        with zipfile.ZipFile(self.state.archive(SLUG)) as archive:
            return {name: sha256(archive.read(name)).hexdigest() for name in archive.namelist()}

    def submissions(self, run: str) -> list[Submission]:
        """What the host holds of a run."""
        database = Database(self.state.database)
        user = Accounts(database).named(self.address.username)
        assert user is not None
        held = Submissions(database, self.state.blobs).of_user(user, SLUG)
        return [submission for submission in held if submission.description.split()[0] == run]


@contextmanager
def faulty_network(folder: Path) -> Iterator[Network]:
    """A real host behind a proxy, where the stages expect the local host; its state in `folder`.

    Their client stays open from command to command, and its pauses are short.
    """
    state = State(folder / "state")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(STATE_VARIABLE, str(state.folder))
        address = stack.enter_context(local_host(SLUG))
        Contests(Database(state.database)).set_daily_limit(SLUG, 10_000)
        proxy = FaultProxy(address.port)
        stack.enter_context(serving(proxy))
        patch.setattr(hosts, "local_host", host_of(replace(address, port=proxy.port)))
        client = stack.enter_context(_impatient_client(proxy.port, address, folder / "client"))
        patch.setattr(hosts, "KaggleClient", lambda _: nullcontext(client))
        patch.setattr(client_module, "_FIRST_PAUSE_SECONDS", 0.02)
        stack.enter_context(stamina.set_testing(True, attempts=10, cap=True))
        competition, form = _described(Workspace(root=folder / "described"))
        yield Network(proxy, address, state, competition, form)


def _impatient_client(port: int, address: HostAddress, scratch: Path) -> KaggleClient:
    scratch.mkdir()
    (scratch / "sitecustomize.py").write_text(_SHORT_PAUSES)
    user, key, instance = address.username, address.key, address.instance
    endpoint = local_endpoint(port, user, key, instance, scratch=scratch)
    environment = {**endpoint.environment, "PYTHONPATH": str(scratch)}
    return KaggleClient(replace(endpoint, environment=environment), timeout=60)


def _described(workspace: Workspace) -> tuple[Competition, SubmissionForm]:
    download(workspace, SLUG, "local")
    raw = workspace.raw(SLUG)
    dataset = read_layout(raw, load_competition(SLUG, workspace.competition(SLUG)))
    form = read_form(raw, dataset.competition, dataset.classes, dataset.test.ids)
    return dataset.competition, form


class Sequence:
    """A new checkout with one run, whose predictions no other seed has."""

    def __init__(self, network: Network, seed: int, root: Path) -> None:
        self._network = network
        self._workspace = Workspace(root=root)
        self._run = self._workspace.runs(SLUG) / f"run-{seed}"
        self._run.mkdir(parents=True)
        made = {"run": self._run.name, "commit": None, "cv": {"mean": 0.1, "std": 0.0}}
        (self._run / "run.json").write_text(json.dumps(made))
        form = network.form
        labels = np.random.default_rng(seed).choice(network.competition.classes, len(form.ids))
        rows = [f"{key},{label}" for key, label in zip(form.ids, labels, strict=True)]
        self._csv = self._run / "submission.csv"
        self._csv.write_text("\n".join([",".join(form.columns), *rows]) + "\n")

    def pass_through(self, schedule: Schedule | None) -> list[PipelineError | None]:
        """Download and submit under a schedule of faults, and check after each of the two.

        Returns how each of the two failed; None: it did not.
        """
        self._network.proxy.follow(schedule)
        stages = ((self._download, self._check_raw), (self._submit, self._check_submission))
        errors = []
        for stage, check in stages:
            errors.append(_failure_of(stage))
            check(errors[-1] is None)
        return errors

    def check_nothing_left(self) -> None:
        """No note, no part of a download, no unfinished folder."""
        left = ("*.partial", ".download-*", ".upload-*")
        assert not [path for name in left for path in self._workspace.root.rglob(name)]

    def _download(self) -> None:
        download(self._workspace, SLUG, "local")

    def _submit(self) -> None:
        submit(self._workspace, self._network.competition, self._network.form, self._run, "local")

    def _check_raw(self, succeeded: bool) -> None:
        """Every file is there and as the host has it, or none."""
        raw = self._workspace.raw(SLUG)
        assert raw.exists() or not succeeded
        if raw.exists():
            verify_manifest(raw)
            files = {path.relative_to(raw).as_posix(): path for path in raw.rglob("*.*")}
            del files["manifest.json"]
            assert {name: sha256_of(path) for name, path in files.items()} == self._network.served()

    def _check_submission(self, succeeded: bool) -> None:
        """The host has the file once at most, and the ledger, or else a note, knows of it."""
        held = self._network.submissions(self._run.name)
        lines = self._ledger_lines()
        assert len(held) == 1 if succeeded else len(held) <= 1
        assert {line["ref"] for line in lines} <= {submission.ref for submission in held}
        assert [line["status"] for line in lines] in (
            [],
            ["PENDING"],
            ["COMPLETE"],
            ["PENDING", "COMPLETE"],
        )
        for submission in held:
            assert sha256_of(self._network.state.blobs / submission.blob) == sha256_of(self._csv)
            assert lines or self._note().exists()
        if lines and lines[-1]["status"] == "COMPLETE":
            assert lines[-1]["public_score"] == pytest.approx(held[0].public_score, abs=1e-5)
        if succeeded:
            assert lines[-1]["status"] == "COMPLETE"
            assert not self._note().exists()

    def _ledger_lines(self) -> list[dict[str, Any]]:
        ledger = self._workspace.ledger
        if not ledger.exists():
            return []
        return [json.loads(line) for line in ledger.read_text().splitlines()]

    def _note(self) -> UploadNote:
        return UploadNote(self._workspace, SLUG, self._network.address.instance)


def _failure_of(stage: Callable[[], None]) -> PipelineError | None:
    """How the stage failed, in one line; any other exception is a bug and passes."""
    failure = None
    try:
        with _within(LONGEST_SECONDS):
            stage()
    except PipelineError as err:
        failure = err
    assert failure is None or len(str(failure).splitlines()) == 1
    return failure


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Interrupt what hangs."""

    def give_up(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"no end within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
