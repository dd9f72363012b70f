"""The push stage: nothing is pushed or submitted twice, whatever dies in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stamina

from pipeline.client.client import KaggleClient
from pipeline.client.kernels import KernelStatus, KernelVersion
from pipeline.client.retries import ATTEMPTS
from pipeline.errors import (
    AccessError,
    ConfigError,
    HostError,
    LimitError,
    OutageError,
    SubmissionError,
)
from pipeline.host.state import State
from pipeline.stages import hosts, kernel_session, submit
from pipeline.stages.push import push
from tests.client.fault_server import (
    TOKEN,
    FaultServer,
    hang,
    hang_up,
    refuse,
    running_server,
    then,
)
from tests.stages.checkouts import Checkout, checkout_at
from tests.stages.commands import write_digit_images
from tests.stages.killing import run_and_kill
from tests.stages.stand_in import INSTANCE, host_at

RUN = "submissions/digits/subkernel-0a1b2c3d"
TEST_IDS = [f"{row:04}" for row in range(40, 50)]


def kernel_outputs(labels: str = "0123456789") -> dict[str, bytes]:
    """What a kernel leaves: the submission, and the run that made it."""
    rows = ["id,label", *(f"{key},{label}" for key, label in zip(TEST_IDS, labels, strict=True))]
    csv = "".join(f"{row}\n" for row in rows).encode()
    made = {"run": "subkernel-0a1b2c3d", "commit": None, "cv": {"mean": 0.97, "std": 0.0123}}
    other = {**made, "run": "subkernel-ffffffff"}
    return {
        "submission.csv": csv,
        f"{RUN}/run.json": json.dumps(made).encode(),
        f"{RUN}/oof.csv": b"id,0,1\n",
        f"{RUN}/fold0/weights.safetensors": b"weights",
        f"{RUN}/submission.csv": csv,
        "submissions/digits/subkernel-00000000/run.json": json.dumps(other).encode(),
    }


def unfinished_outputs(epochs: int) -> dict[str, bytes]:
    """What a kernel leaves whose time was up."""
    return {
        f"{RUN}/run.json": json.dumps({"run": "subkernel-0a1b2c3d"}).encode(),
        f"{RUN}/fold0.unfinished/metrics.jsonl": b'{"epoch": 1}\n' * epochs,
        f"{RUN}/fold0.unfinished/checkpoint.pt": b"state",
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultServer]:
    state = State(tmp_path / "state")
    state.create()
    state.instance.write_text(INSTANCE)
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(state.folder))
    monkeypatch.setattr(kernel_session, "_FIRST_PAUSE_SECONDS", 0.05)
    with running_server() as running, stamina.set_testing(True, attempts=10, cap=True):
        running.book.kernels.outputs = kernel_outputs()
        monkeypatch.setattr(hosts, "local_host", host_at(running.port))
        yield running


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = checkout_at(tmp_path / "checkout")
    write_digit_images(made.settings.workspace.raw("digits"), train=40, test=10)
    return made


def test_from_the_package_to_a_score(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.push()
    printed = capsys.readouterr().out
    for line in (
        "1.0 of 30.0 GPU hours used; 17 of 20 submissions left today",
        "pushed alice/digits-subkernel/1",
        "  | epoch 2",
        "alice/digits-subkernel/1 ended: COMPLETE",
        "fetched 6 output files",
        "submission 1001: public 0.9100, private 0.8900, cross-validation 0.9700",
    ):
        assert line in printed
    (saved,) = server.book.kernels.saved
    assert saved["slug"] == "alice/digits-subkernel"
    assert f"Push: `{checkout.folder.name}`" in saved["text"]
    assert (saved["isPrivate"], saved["enableInternet"]) == (True, False)
    made = json.loads((checkout.folder / "run.json").read_text())
    assert made["run"] == checkout.folder.name
    assert made["kernel"] == {"kernel": "alice/digits-subkernel", "version": 1}
    assert (checkout.folder / "fold0" / "weights.safetensors").read_bytes() == b"weights"
    assert (checkout.folder / "kernel.log").read_text() == "epoch 1\nepoch 2\n"
    (upload,) = checkout.uploads
    assert (upload["kernel"], upload["run"]) == ("alice/digits-subkernel/1", checkout.folder.name)
    assert (upload["cv_mean"], upload["cv_std"], upload["public_score"]) == (0.97, 0.0123, 0.91)
    assert (checkout.record["version"], checkout.record["submission"]) == (1, 1001)


def test_second_run_pushes_and_submits_nothing(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.push()
    checkout.push()
    assert "nothing uploaded: the same file went up as submission 1001" in capsys.readouterr().out
    assert len(server.book.kernels.saved) == len(server.book.submissions) == 1


def test_force_pushes_and_submits_again(server: FaultServer, checkout: Checkout) -> None:
    checkout.push()
    checkout.push(force=True)
    assert [upload["kernel"][-2:] for upload in checkout.uploads] == ["/1", "/2"]


def test_forced_push_without_a_submission_left_is_not_pushed_again(
    server: FaultServer, checkout: Checkout
) -> None:
    checkout.push()
    server.book.today = server.book.allowed_a_day
    with pytest.raises(LimitError, match="no more submissions today"):
        checkout.push(force=True)
    server.book.today = 0
    checkout.push(force=True)
    assert len(server.book.kernels.saved) == 2
    assert [upload["kernel"][-2:] for upload in checkout.uploads] == ["/1", "/2"]


def test_lost_record_is_found_on_the_host(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.push()
    (checkout.folder / "push.json").unlink()
    checkout.push()
    assert "alice/digits-subkernel/1 on the local competition host is" in capsys.readouterr().out
    assert len(server.book.kernels.saved) == len(server.book.submissions) == 1


def test_submission_by_version(server: FaultServer, checkout: Checkout) -> None:
    checkout.push(via="kernel")
    (made,) = server.book.submissions
    assert (made["asked"]["kernelVersion"], made["asked"]["fileName"]) == (1, "submission.csv")
    assert server.book.uploads == {}
    assert checkout.uploads[0]["public_score"] == 0.91


def test_failed_kernel(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    server.book.kernels.states = ["RUNNING", "ERROR"]
    server.book.kernels.message = "exit code 1"
    server.book.kernels.log = json.dumps([{"data": "epoch 1\nValueError: no such conv\n"}])
    words = r"/1 ended as ERROR \(exit code 1\); its log ends 'ValueError: no such conv'"
    with pytest.raises(HostError, match=words) as caught:
        checkout.push()
    assert "\n" not in str(caught.value)
    assert "  | epoch 1\n  | ValueError" in capsys.readouterr().err
    log = checkout.folder / "kernel.log"
    assert log.read_text() == "epoch 1\nValueError: no such conv\n"
    assert str(log) in str(caught.value)
    with pytest.raises(HostError, match=f"nothing pushed: .*{words}.*FORCE=1"):
        checkout.push()
    assert len(server.book.kernels.saved) == 1
    server.book.kernels.states = ["COMPLETE"]
    checkout.push(force=True)
    assert checkout.uploads[0]["kernel"] == "alice/digits-subkernel/2"


def test_kernel_that_runs_too_long(
    server: FaultServer, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.book.kernels.states = ["RUNNING"]
    with monkeypatch.context() as patch:
        patch.setattr(kernel_session, "HOURS_TO_RUN", 0.0)
        with pytest.raises(HostError, match=r"is RUNNING after 0 hours.*rerun to go on waiting"):
            checkout.push()
    assert (checkout.folder / "kernel.log").exists()
    server.book.kernels.states = ["COMPLETE"]
    checkout.push()
    assert len(server.book.kernels.saved) == 1


def test_an_outage_while_the_kernel_runs_is_waited_out(
    server: FaultServer,
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.book.faults["GetKernelSessionStatus"] = [refuse(503)] * ATTEMPTS
    with pytest.raises(OutageError, match=r"HTTP 503.*rerun"):  # the local host's kernels end, too
        checkout.push()
    monkeypatch.setitem(kernel_session._LONGEST_OUTAGE_SECONDS, "local", 60.0)
    monkeypatch.setattr(kernel_session, "_LONGEST_PAUSE_SECONDS", 0.01)
    server.book.faults["GetKernelSessionStatus"] = [refuse(503)] * ATTEMPTS + [hang_up] * ATTEMPTS
    checkout.push()
    assert capsys.readouterr().out.count("is asked again in a minute") == 2
    assert len(server.book.kernels.saved) == 1
    assert len(checkout.uploads) == 1


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("submission.csv", "wrote no submission.csv; its log ends 'epoch 2'"),
        (f"{RUN}/submission.csv", "holds no run folder with its submission.csv"),
    ],
)
def test_kernel_without_a_submission(
    server: FaultServer, checkout: Checkout, missing: str, words: str
) -> None:
    del server.book.kernels.outputs[missing]
    with pytest.raises(HostError, match=words):
        checkout.push()
    assert (checkout.folder / "kernel.log").exists()
    with pytest.raises(HostError, match=f"nothing pushed: .*{words}"):
        checkout.push()


def test_sessions_that_are_too_short_are_gone_on_with(
    server: FaultServer, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = server.book.kernels
    kernels.unfinished = {1: unfinished_outputs(3), 2: unfinished_outputs(5)}
    checkout.push(budget="9h")
    printed = capsys.readouterr().out
    assert "after 3 epochs, its time being up; session 2 goes on from alice/digits-sub" in printed
    sources = [saved.get("kernelDataSources", []) for saved in kernels.saved]
    assert sources == [[], ["alice/digits-subkernel/1"], ["alice/digits-subkernel/2"]]
    assert all("HOURS = 9.0" in saved["text"] for saved in kernels.saved)
    (upload,) = checkout.uploads
    assert upload["kernel"] == "alice/digits-subkernel/3"
    checkout.push()
    assert len(kernels.saved) == 3


def test_two_pushes_at_once_wait_for_the_session_that_either_pushed(
    server: FaultServer, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.book.kernels.unfinished = {1: unfinished_outputs(3)}
    waits: list[str] = []

    def wait(client: KaggleClient, pushed: KernelVersion, folder: Path) -> KernelStatus:
        waits.append(str(pushed)[-2:])
        if len(waits) == 1:  # the other command sees the end of the session first
            with pytest.raises(KeyboardInterrupt):
                checkout.push()
        elif len(waits) == 3:
            raise KeyboardInterrupt
        return kernel_session.wait_for_kernel(client, pushed, folder)

    monkeypatch.setattr("pipeline.stages.push.wait_for_kernel", wait)
    checkout.push()
    assert waits == ["/1", "/1", "/2", "/2"]
    assert len(server.book.kernels.saved) == 2
    assert [upload["kernel"] for upload in checkout.uploads] == ["alice/digits-subkernel/2"]


@pytest.mark.parametrize("force", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_killed_between_sessions_nothing_is_pushed_twice(
    server: FaultServer, checkout: Checkout, force: bool
) -> None:
    kernels = server.book.kernels
    if force:
        checkout.push()
    first = len(kernels.saved) + 1
    kernels.unfinished = {first: unfinished_outputs(3)}
    # Before the second session is pushed, and after, when nobody has noted that it was.
    server.book.faults["SaveKernel"] = [lambda handler: handler.operate(), hang]
    push_and_kill(server, checkout, lambda: server.book.count("SaveKernel") > first, force=force)
    server.book.faults["SaveKernel"] = [then(hang)]
    push_and_kill(server, checkout, lambda: len(kernels.saved) > first, force=force)
    checkout.push(force=force)
    assert len(kernels.saved) == first + 1
    assert checkout.uploads[-1]["kernel"] == f"alice/digits-subkernel/{first + 1}"


def test_two_sessions_that_train_nothing_need_more_time(
    server: FaultServer, checkout: Checkout
) -> None:
    server.book.kernels.unfinished = dict.fromkeys((1, 2, 3), unfinished_outputs(3))
    with pytest.raises(HostError, match=r"/3 is the second .* no epoch; .* larger BUDGET"):
        checkout.push()
    assert len(server.book.kernels.saved) == 3
    checkout.push(budget="11h")
    assert server.book.kernels.saved[3]["kernelDataSources"] == ["alice/digits-subkernel/3"]
    assert len(checkout.uploads) == 1


def test_sessions_without_end_are_ended(
    server: FaultServer, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.push.MOST_SESSIONS", 3)
    server.book.kernels.unfinished = {n: unfinished_outputs(n) for n in range(1, 9)}
    for words in ("after 3 epochs, its time being up, as 2 sessions before", "nothing pushed"):
        with pytest.raises(HostError, match=words):
            checkout.push()
    assert len(server.book.kernels.saved) == 3


@pytest.mark.parametrize("budget", ["12h", "12h1m", "long"])
def test_a_budget_that_no_session_has(checkout: Checkout, budget: str) -> None:
    with pytest.raises(ConfigError, match=f"BUDGET='?{budget}"):
        checkout.push(budget=budget)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"run": "best"}, "by `make submit COMPETITION=digits RUN=best HOST=local`"),
        ({"launch": "ddp"}, "GPUs train a fold each"),
    ],
)
def test_what_no_kernel_does_is_refused(
    server: FaultServer, checkout: Checkout, setting: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        push(replace(checkout.settings, **setting))
    assert server.book.log == []


def test_a_gpu_must_be_where_the_kernel_runs(
    server: FaultServer, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    push(replace(checkout.settings, set="device=cuda graphs=on precision=fp16"))
    (saved,) = server.book.kernels.saved
    assert 'SET = \\"device=cuda graphs=on precision=fp16\\"' in saved["text"]
    with pytest.raises(ConfigError, match="precision='fp8' is unknown"):
        push(replace(checkout.settings, set="device=cuda precision=fp8"))


def test_bad_file_is_not_submitted(server: FaultServer, checkout: Checkout) -> None:
    server.book.kernels.outputs = kernel_outputs(labels="0123456x89")
    with pytest.raises(SubmissionError, match="first id '0047'"):
        checkout.push()
    assert server.book.submissions == []


def test_file_that_cannot_be_scored_is_not_submitted_again(
    server: FaultServer, checkout: Checkout
) -> None:
    server.book.status = "ERROR"
    for words in ("could not be scored: 3 ids", "nothing uploaded: .*3 ids"):
        with pytest.raises(HostError, match=words):
            checkout.push()
    assert len(server.book.submissions) == 1
    server.book.status = "COMPLETE"
    checkout.push(force=True)
    assert [upload["status"] for upload in checkout.uploads] == ["ERROR", "COMPLETE"]


def test_used_up_quota(server: FaultServer, checkout: Checkout) -> None:
    server.book.kernels.quota["gpuQuota"] = {"timeUsed": "720s", "totalTimeAllowed": "720s"}
    words = (
        r"quota is used up \(0.2 of 0.2 GPU .*nothing was pushed, rerun after 2026-11-28T00:00:00Z"
    )
    with pytest.raises(LimitError, match=words):
        checkout.push()
    assert server.book.count("SaveKernel") == 0


def test_competition_not_joined(server: FaultServer, checkout: Checkout) -> None:
    server.book.faults["GetSubmissionLimits"] = [refuse(403, "rules")]
    with pytest.raises(AccessError, match="accept the rules with"):
        checkout.push()
    assert server.book.count("SaveKernel") == 0


@pytest.mark.parametrize(
    ("title", "words"),
    [(f"my {TOKEN}", "secrets, first .*Kaggle token"), ("x" * 1_000_000, "less than 1,000,000")],
)
def test_kernel_that_must_not_leave(
    server: FaultServer, checkout: Checkout, title: str, words: str
) -> None:
    checkout.write_definition(f'title = "{title}"\n')
    with pytest.raises(ConfigError, match=words) as caught:
        checkout.push()
    assert TOKEN not in str(caught.value)
    assert server.book.count("SaveKernel") == 0


def test_push_with_a_lost_answer_goes_on(server: FaultServer, checkout: Checkout) -> None:
    server.book.faults["SaveKernel"] = [then(hang_up)]
    checkout.push()
    assert len(server.book.kernels.saved) == 1


def push_in_child(port: int, root: Path, force: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts, "local_host", host_at(port))
        patch.setattr(submit, "_AT_ONCE_SECONDS", 0.0)
        checkout_at(root).push(force=force)


def push_and_kill(
    server: FaultServer, checkout: Checkout, when: Callable[[], bool], *, force: bool
) -> None:
    """Push in another process and SIGKILL it `when` it has come that far."""
    run_and_kill(push_in_child, (server.port, checkout.settings.root, force), when)


@pytest.mark.parametrize("force", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_killed_at_every_step_nothing_happens_twice(
    server: FaultServer, checkout: Checkout, force: bool
) -> None:
    book, kernels = server.book, server.book.kernels
    if force:
        checkout.push()
    before = int(force)

    def kill(when: Callable[[], bool]) -> None:
        push_and_kill(server, checkout, when, force=force)

    def asked_again(method: str) -> Callable[[], bool]:
        count = book.count(method)
        return lambda: book.count(method) > count

    book.faults["SaveKernel"] = [hang]  # before the push
    kill(asked_again("SaveKernel"))
    book.faults["SaveKernel"] = [then(hang)]  # pushed, the answer lost
    kill(lambda: len(kernels.saved) > before)
    kernels.states = ["RUNNING"]
    kill(asked_again("GetKernelSessionStatus"))
    kernels.states = ["COMPLETE"]
    book.faults["DownloadOutput"] = [lambda handler: handler.operate(), hang]
    kill(asked_again("DownloadOutput"))
    assert not checkout.record["fetched"]
    book.faults["CreateSubmission"] = [hang]  # before the submission
    kill(asked_again("CreateSubmission"))
    book.faults["CreateSubmission"] = [then(hang)]  # submitted, the answer lost
    kill(lambda: len(book.submissions) > before)
    book.submissions[-1]["status"] = "PENDING"
    kill(asked_again("GetSubmission"))
    book.submissions[-1] |= {"status": "COMPLETE", "publicScore": "0.5"}
    checkout.push(force=force)

    assert len(kernels.saved) == len(book.submissions) == before + 1
    assert checkout.record["version"] == before + 1
    upload = checkout.uploads[-1]
    assert (upload["public_score"], upload["cv_mean"]) == (0.5, 0.97)
    assert upload["kernel"] == f"alice/digits-subkernel/{before + 1}"
