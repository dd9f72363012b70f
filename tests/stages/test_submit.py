"""The submit stage: nothing is uploaded twice, nothing is forgotten, whatever dies in between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina

from pipeline.artifacts import sha256_of
from pipeline.competition import Competition, load_competition
from pipeline.data.layouts import read_layout
from pipeline.data.submission import SubmissionForm, read_form
from pipeline.errors import (
    AccessError,
    HostError,
    LimitError,
    PipelineError,
    SubmissionError,
)
from pipeline.host.state import State
from pipeline.stages import hosts
from pipeline.stages.download import download
from pipeline.stages.ledger import print_ledger
from pipeline.stages.submit import submit
from pipeline.stages.upload_note import UploadNote
from pipeline.workspace import Workspace
from tests.client.fault_server import (
    Fault,
    FaultServer,
    hang,
    hang_up,
    refuse,
    running_server,
    then,
)
from tests.permissions import ordinary_user
from tests.stages.killing import kill_when
from tests.stages.stand_in import INSTANCE, host_at

REPOSITORY = Path(__file__).parents[2]
CLASSES = tuple("0123456789")
IDS = [f"t{number}" for number in range(6)]


@dataclass
class Checkout:
    """A workspace whose competition has a sample submission, and runs made by hand."""

    workspace: Workspace
    competition: Competition
    form: SubmissionForm

    def add_run(self, name: str, labels: str = "012345", newline: str = "\n") -> Path:
        run = self.workspace.runs("digits") / name
        run.mkdir(parents=True)
        made = {"run": name, "commit": "c0ffee", "cv": {"mean": 0.97, "std": 0.0123}}
        (run / "run.json").write_text(json.dumps(made))
        rows = ["id,label", *(f"{key},{label}" for key, label in zip(IDS, labels, strict=True))]
        (run / "submission.csv").write_bytes("".join(row + newline for row in rows).encode())
        return run

    def submit(self, run: Path, *, force: bool = False) -> None:
        submit(self.workspace, self.competition, self.form, run, "local", force=force)

    def lines(self) -> list[dict[str, Any]]:
        if not self.workspace.ledger.exists():
            return []
        return [json.loads(line) for line in self.workspace.ledger.read_text().splitlines()]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultServer]:
    state = State(tmp_path / "state")
    state.create()
    state.instance.write_text(INSTANCE)
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(state.folder))
    with running_server() as running, stamina.set_testing(True, attempts=10, cap=True):
        monkeypatch.setattr(hosts, "local_host", host_at(running.port))
        yield running


def checkout_at(root: Path) -> Checkout:
    workspace = Workspace(root=root)
    raw = workspace.raw("digits")
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "sample_submission.csv").write_text("\n".join(["id,label", *(f"{i},0" for i in IDS)]))
    competition = load_competition("digits", workspace.competition("digits"))
    return Checkout(workspace, competition, read_form(raw, competition, CLASSES, IDS))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return checkout_at(tmp_path / "checkout")


def test_upload_is_scored_and_recorded(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    printed = capsys.readouterr().out
    assert "17 of 20 submissions left today" in printed
    assert "submission 1001: public 0.9100, private 0.8900" in printed
    (line,) = checkout.lines()
    assert line["file_sha256"] == sha256_of(run / "submission.csv")
    assert len(line["predictions_sha256"]) == 64
    assert server.book.uploads["1"] == (run / "submission.csv").read_bytes()
    expected = {
        "competition": "digits",
        "run": "run-1",
        "cv_mean": 0.97,
        "cv_std": 0.0123,
        "public_score": 0.91,
        "private_score": 0.89,
        "host": "local",
        "instance": INSTANCE,
        "ref": 1001,
        "commit": "c0ffee",
        "status": "COMPLETE",
        "submitted_at": "2026-11-22T12:00:00Z",
    }
    assert expected.items() <= line.items()


def test_second_run_uploads_nothing_and_needs_no_server(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    asked = len(server.book.log)
    checkout.submit(run)
    assert len(server.book.log) == asked
    printed = capsys.readouterr().out
    assert "nothing uploaded: the same file went up as submission 1001" in printed
    assert "FORCE=1" in printed


def test_same_predictions_in_other_bytes_are_not_uploaded(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.submit(checkout.add_run("run-1"))
    checkout.submit(checkout.add_run("run-2", newline="\r\n"))
    assert server.book.count("CreateSubmission") == 1
    assert "the same predictions, other bytes" in capsys.readouterr().out


def test_force_uploads_again(server: FaultServer, checkout: Checkout) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    checkout.submit(run, force=True)
    assert [line["ref"] for line in checkout.lines()] == [1001, 1002]


def test_another_host_instance_gets_its_own_upload(
    server: FaultServer, checkout: Checkout, tmp_path: Path
) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    ledger = checkout.workspace.ledger
    ledger.write_text(ledger.read_text().replace(INSTANCE, "an older host"))
    server.book.submissions.clear()
    checkout.submit(run)
    assert server.book.count("CreateSubmission") == 2


def test_unknown_instance_is_learnt_from_the_server(
    server: FaultServer, checkout: Checkout, tmp_path: Path
) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    State(tmp_path / "state").instance.unlink()
    checkout.submit(run)
    assert server.book.count("CreateSubmission") == 1


def test_daily_limit_is_read_first(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    server.book.allowed_a_day = 3
    with pytest.raises(
        LimitError, match=r"no submission left .*nothing was uploaded, rerun after midnight"
    ):
        checkout.submit(checkout.add_run("run-1"))
    assert "no submission left today, 3 made" in capsys.readouterr().out
    assert server.book.count("StartSubmissionUpload") == 0
    assert checkout.lines() == []


def test_newcomer_has_no_limit_yet(server: FaultServer, checkout: Checkout) -> None:
    """Kaggle reports nothing used and nothing left to who never submitted."""
    server.book.today = server.book.allowed_a_day = 0
    checkout.submit(checkout.add_run("run-1"))
    assert len(checkout.lines()) == 1


def test_bad_file_is_not_uploaded(server: FaultServer, checkout: Checkout) -> None:
    with pytest.raises(SubmissionError):
        checkout.submit(checkout.add_run("run-1", labels="01234x"))
    assert server.book.log == []


@pytest.mark.parametrize(
    ("fault", "error"), [(refuse(403), AccessError), (refuse(500), HostError), (hang_up, HostError)]
)
def test_refused_upload_leaves_no_line(
    server: FaultServer, checkout: Checkout, fault: Fault, error: type[PipelineError]
) -> None:
    run = checkout.add_run("run-1")
    server.book.faults["StartSubmissionUpload"] = [fault]
    with pytest.raises(error):
        checkout.submit(run)
    assert checkout.lines() == []
    checkout.submit(run)
    assert len(checkout.lines()) == 1


def test_failed_scoring_is_recorded_and_not_repeated(
    server: FaultServer, checkout: Checkout
) -> None:
    run = checkout.add_run("run-1")
    server.book.status = "ERROR"
    with pytest.raises(HostError, match="could not be scored: 3 ids unknown"):
        checkout.submit(run)
    (line,) = checkout.lines()
    assert (line["status"], line["error"], line["public_score"]) == ("ERROR", "3 ids unknown", None)
    asked = len(server.book.log)
    with pytest.raises(HostError, match=r"nothing uploaded: .*submission 1001.*3 ids unknown"):
        checkout.submit(run)
    assert len(server.book.log) == asked
    server.book.status = "COMPLETE"
    checkout.submit(run, force=True)
    assert checkout.lines()[-1]["status"] == "COMPLETE"


def test_lost_contact_after_the_upload_is_recorded(server: FaultServer, checkout: Checkout) -> None:
    run = checkout.add_run("run-1")
    server.book.faults["GetSubmission"] = [refuse(500)] * 4
    with pytest.raises(HostError):
        checkout.submit(run)
    assert [line["status"] for line in checkout.lines()] == ["PENDING"]
    checkout.submit(run)
    assert [line["status"] for line in checkout.lines()] == ["PENDING", "COMPLETE"]
    assert server.book.count("CreateSubmission") == 1


_SUBMIT = """
import sys
from pathlib import Path
from pipeline.errors import PipelineError
from pipeline.stages import hosts, submit
from tests.stages.stand_in import host_at
from tests.stages.test_submit import checkout_at
hosts.local_host = host_at(int(sys.argv[1]))
submit._AT_ONCE_SECONDS = 0.0
checkout = checkout_at(Path(sys.argv[2]))
run = checkout.workspace.runs("digits") / sys.argv[3]
try:
    checkout.submit(run, force=sys.argv[4:] == ["force"])
except PipelineError as err:
    sys.exit(f"{type(err).__name__}: {err}")
"""


def submit_and_kill(
    server: FaultServer, checkout: Checkout, run: Path, when: Callable[[], bool], *force: str
) -> None:
    """Submit in another process and SIGKILL it `when` it has come that far."""
    arguments = [str(server.port), str(checkout.workspace.root), run.name, *force]
    process = subprocess.Popen([sys.executable, "-c", _SUBMIT, *arguments], cwd=REPOSITORY)
    kill_when(process.pid, lambda: process.poll() is None, when)
    process.wait()


def test_crash_between_upload_and_record_is_mended(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkout.add_run("run-1")
    server.book.faults["CreateSubmission"] = [then(hang)]
    submit_and_kill(server, checkout, run, lambda: len(server.book.submissions) == 1)
    assert checkout.lines() == []
    checkout.submit(run)
    assert server.book.count("CreateSubmission") == 1
    (line,) = checkout.lines()
    assert (line["run"], line["ref"], line["public_score"]) == ("run-1", 1001, 0.91)
    assert line["file_sha256"] == sha256_of(run / "submission.csv")
    assert "submission 1001 (run-1) was not in the ledger: added" in capsys.readouterr().out


def test_interrupted_forced_upload_is_not_repeated(server: FaultServer, checkout: Checkout) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    server.book.faults["CreateSubmission"] = [then(hang)]
    submit_and_kill(server, checkout, run, lambda: len(server.book.submissions) == 2, "force")
    checkout.submit(run, force=True)
    assert [line["ref"] for line in checkout.lines()] == [1001, 1002]
    assert server.book.count("CreateSubmission") == 2


def submit_as_ordinary_user(server: FaultServer, checkout: Checkout, run: Path, *force: str) -> str:
    """Submit where permission bits count; returns what went to standard error."""
    arguments = [str(server.port), str(checkout.workspace.root), run.name, *force]
    result = subprocess.run(
        [*ordinary_user(), sys.executable, "-c", _SUBMIT, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == (1 if result.stderr else 0)
    return result.stderr


@pytest.fixture
def read_only(checkout: Checkout) -> Iterator[Callable[[], None]]:
    """Forbids new files in submissions/ from the call to the end of the test."""
    folder = checkout.workspace.ledger.parent
    yield lambda: folder.chmod(0o500)
    folder.chmod(0o700)


def test_nothing_is_uploaded_where_the_ledger_cannot_be_written(
    server: FaultServer, checkout: Checkout, read_only: Callable[[], None]
) -> None:
    run = checkout.add_run("run-1")
    read_only()
    errors = submit_as_ordinary_user(server, checkout, run)
    assert errors.startswith("StorageError: cannot write")
    assert "submissions" in errors
    assert errors.count("\n") == 1
    assert server.book.count("StartSubmissionUpload") == 0


def test_forced_upload_that_could_not_be_recorded_is_found_by_a_plain_submit(
    server: FaultServer, checkout: Checkout, read_only: Callable[[], None]
) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)

    def forbid_and_take(handler: Any) -> None:
        read_only()
        handler.operate()

    server.book.faults["CreateSubmission"] = [forbid_and_take]
    errors = submit_as_ordinary_user(server, checkout, run, "force")
    assert errors.startswith("StorageError: cannot write")
    assert [line["ref"] for line in checkout.lines()] == [1001]
    checkout.workspace.ledger.parent.chmod(0o700)
    for _ in range(2):
        checkout.submit(run)
        assert [line["ref"] for line in checkout.lines()] == [1001, 1002]
    assert server.book.count("CreateSubmission") == 2
    assert not list(checkout.workspace.ledger.parent.glob(".upload-*"))


def test_ledger_that_may_not_be_read(server: FaultServer, checkout: Checkout) -> None:
    run = checkout.add_run("run-1")
    checkout.submit(run)
    checkout.workspace.ledger.chmod(0)
    errors = submit_as_ordinary_user(server, checkout, run, "force")
    assert errors.startswith(f"StorageError: cannot read {checkout.workspace.ledger}: Permission")
    assert errors.count("\n") == 1
    assert server.book.count("CreateSubmission") == 1


def test_note_of_another_host_is_left_alone(server: FaultServer, checkout: Checkout) -> None:
    note = UploadNote(checkout.workspace, "digits", "kaggle.com")
    note.write("run-0 sha256:0123456789abcdef")
    checkout.submit(checkout.add_run("run-1"))
    assert note.exists()


def test_forgotten_upload_of_another_run_is_mended_too(
    server: FaultServer, checkout: Checkout
) -> None:
    forgotten = checkout.add_run("run-1")
    server.book.faults["CreateSubmission"] = [then(hang)]
    submit_and_kill(server, checkout, forgotten, lambda: len(server.book.submissions) == 1)
    checkout.submit(checkout.add_run("run-2", labels="543210"))
    assert [(line["run"], line["ref"]) for line in checkout.lines()] == [
        ("run-1", 1001),
        ("run-2", 1002),
    ]


def test_kill_while_waiting_for_the_score_is_completed(
    server: FaultServer, checkout: Checkout
) -> None:
    run = checkout.add_run("run-1")
    server.book.status = "PENDING"
    submit_and_kill(server, checkout, run, lambda: bool(checkout.lines()))
    assert [line["status"] for line in checkout.lines()] == ["PENDING"]
    server.book.submissions[0] |= {"status": "COMPLETE", "publicScore": "0.5"}
    checkout.submit(run)
    assert [line["public_score"] for line in checkout.lines()] == [None, 0.5]
    assert server.book.count("CreateSubmission") == 1


def test_submissions_made_by_others_are_left_alone(server: FaultServer, checkout: Checkout) -> None:
    texts = ["by hand", "", "run-1 sha256:0123456789abcdef", "../x sha256:0123456789abcdef"]
    for ref, text in enumerate(texts):
        server.book.submissions.append({"ref": ref + 1, "description": text, "status": "COMPLETE"})
    checkout.submit(checkout.add_run("run-1"))
    assert [line["ref"] for line in checkout.lines()] == [1005]


def test_ledger_table(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    print_ledger(checkout.workspace)
    assert "no uploads yet" in capsys.readouterr().out
    checkout.submit(checkout.add_run("run-1"))
    capsys.readouterr()
    print_ledger(checkout.workspace)
    heading, row = capsys.readouterr().out.splitlines()
    assert "CV mean ± std" in heading
    shown = ["digits", "run-1", "local", "1001", "0.9700", "±", "0.0123", "0.9100", "0.8900"]
    assert row.split()[2:] == shown


def test_real_host_scores_a_real_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Download, submit and score with the local competition host itself, no stand-in."""
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(tmp_path / "state"))
    hosts._say_once.cache_clear()  # said once a process, and earlier tests were in this one
    workspace = Workspace(root=tmp_path / "checkout")
    download(workspace, "digits", "auto")
    raw = workspace.raw("digits")
    dataset = read_layout(raw, load_competition("digits", workspace.competition("digits")))
    form = read_form(raw, dataset.competition, dataset.classes, dataset.test.ids)
    run = workspace.runs("digits") / "run-1"
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"run": "run-1", "commit": None, "cv": {"mean": 0.1, "std": 0.0}})
    )
    labels = np.random.default_rng(0).choice(list(CLASSES), len(form.ids))
    rows = [f"{key},{label}" for key, label in zip(form.ids, labels, strict=True)]
    (run / "submission.csv").write_text("\n".join([",".join(form.columns), *rows]) + "\n")
    for _ in range(2):
        submit(workspace, dataset.competition, form, run, "auto")
    (line,) = [json.loads(line) for line in workspace.ledger.read_text().splitlines()]
    assert 0 <= line["public_score"] < 0.4
    assert line["status"] == "COMPLETE"
    printed = capfd.readouterr().out
    assert "no Kaggle credentials found: using the local competition host" in printed
    assert "nothing uploaded" in printed
