"""The push stage against the local host itself, which runs the kernels for real."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import AccessError, HostError, LimitError
from pipeline.host.kernels.store import Version
from pipeline.host.lifecycle import local_host
from pipeline.host.services import Services
from pipeline.host.state import State
from tests.host.pushing import needs_sandbox
from tests.stages.checkouts import checkout_at
from tests.stages.commands import Command
from tests.stages.killing import run_and_kill

pytestmark = needs_sandbox()


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """The stores of a host that runs as long as the test."""
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(tmp_path / "state"))
    with local_host("digits", state=tmp_path / "state"):
        yield Services.open(State(tmp_path / "state"))


def push_in_child(root: Path, budget: str) -> None:
    os.environ["PIPELINE_HOST_STATE"] = str(root / "state")
    os.environ["OMP_NUM_THREADS"] = "1"
    checkout_at(root).push(budget=budget)


def versions(services: Services) -> list[Version]:
    """Every version of the kernel, the first one first."""
    found: list[Version] = []
    name = ("local-user", "local-user", "digits-subkernel")
    while version := services.kernels.find(*name, len(found) + 1):
        found.append(version)
    return found


def submissions(services: Services) -> int:
    user = services.accounts.named("local-user")
    assert user is not None
    return len(services.submissions.of_user(user, "digits"))


@pytest.mark.soak
def test_killed_at_every_step_of_every_session_nothing_happens_twice(
    tmp_path: Path, services: Services
) -> None:
    """Two sessions have no time to train, the third has enough for all."""
    checkout = checkout_at(tmp_path)

    def kill(when: Callable[[], bool], budget: str) -> None:
        run_and_kill(push_in_child, (tmp_path, budget), when)

    def noted(key: str, value: object) -> Callable[[], bool]:
        runs = checkout.settings.workspace.runs("digits")
        return lambda: bool(list(runs.glob("*/push.json"))) and checkout.record[key] == value

    kill(noted("session", 1), "0s")
    kill(lambda: len(versions(services)) == 1, "0s")
    kill(lambda: versions(services)[0].status == "RUNNING", "0s")
    kill(noted("state", "COMPLETE"), "0s")
    kill(lambda: len(versions(services)) == 2, "0s")
    with pytest.raises(HostError, match="is the second session in a row that finished no epoch"):
        checkout.push(budget="0s")
    kill(lambda: len(versions(services)) == 3, "1h")
    kill(lambda: bool(list(checkout.folder.glob(".output-3"))), "1h")
    kill(noted("fetched", True), "1h")
    kill(lambda: submissions(services) == 1, "1h")
    checkout.push(budget="1h")

    sessions = versions(services)
    assert [version.status for version in sessions] == ["COMPLETE"] * 3
    assert [version.settings.kernel_data_sources for version in sessions] == [
        (),
        ("local-user/digits-subkernel/1",),
        ("local-user/digits-subkernel/2",),
    ]
    assert "going on with /kaggle/input/digits-subkernel/" in checkout.log
    assert submissions(services) == 1
    assert {upload["kernel"] for upload in checkout.uploads} == {"local-user/digits-subkernel/3"}
    assert 0.3 < checkout.uploads[-1]["public_score"] <= 1


def test_nothing_is_pushed_without_quota_or_membership(tmp_path: Path, services: Services) -> None:
    user = services.accounts.named("local-user")
    assert user is not None
    services.kernels.set_gpu_hours(user, 0)
    with pytest.raises(LimitError, match=r"GPU quota is used up \(0.0 of 0.0 GPU hours"):
        checkout_at(tmp_path).push()
    services.kernels.set_gpu_hours(user, 30)
    services.accounts.set_rules(user, "digits", accepted=False)
    with pytest.raises(AccessError, match=r"rules of 'digits' first.*accept the rules"):
        checkout_at(tmp_path).push()
    assert versions(services) == []


@pytest.mark.soak
def test_real_kernel_makes_the_file_that_this_machine_makes(
    tmp_path: Path, services: Services, command: Command
) -> None:
    """From nothing to a score; `submit` then has nothing to upload."""
    checkout = checkout_at(tmp_path)
    choices = ("--competition", "digits", "--recipe", "smoke", "--folds", "2", "--host", "local")
    choices += ("--execution", "folded")  # auto is timed, which may end otherwise the second time
    outcome = command("push", *choices)
    assert outcome.code == 0, outcome.errors
    assert "ended: COMPLETE" in outcome.output
    pushed = checkout.folder
    outcome = command("submit", *choices)
    assert outcome.code == 0, outcome.errors
    assert "nothing uploaded: the same file went up as submission 1" in outcome.output
    (own,) = set(checkout.settings.workspace.runs("digits").iterdir()) - {pushed}
    assert (own / "submission.csv").read_bytes() == (pushed / "submission.csv").read_bytes()
    (upload,) = checkout.uploads
    assert (upload["run"], upload["kernel"][-2:]) == (pushed.name, "/1")
    assert upload["cv_mean"] == json.loads((own / "run.json").read_text())["cv"]["mean"]
    assert 0.3 < upload["public_score"] <= 1


def test_a_code_competition_scores_what_the_notebook_writes_for_another_test_set(
    tmp_path: Path, services: Services
) -> None:
    services.contests.set_code("digits", True)
    checkout = checkout_at(tmp_path)

    checkout.push(via="kernel")

    user = services.accounts.named("local-user")
    assert user is not None
    (submission,) = services.submissions.of_user(user, "digits")
    scored = services.submissions.blob(submission.blob).read_text().splitlines()
    known = (checkout.folder / "submission.csv").read_text().splitlines()
    assert (len(scored), len(known)) == (301, 501)
    assert not set(scored[1:]) & set(known[1:])
    assert {upload["ref"] for upload in checkout.uploads} == {submission.ref}
    assert 0.3 < checkout.uploads[-1]["public_score"] <= 1
