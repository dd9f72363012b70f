"""Code competitions: a submitted kernel runs again, on a test set that nobody has seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pipeline.artifacts import read_json
from pipeline.host.lifecycle import local_host
from tests.host.pushing import COPY_SAMPLE, needs_sandbox, push, wait_until_run
from tests.host.running import Caller, Host, as_csv

pytestmark = needs_sandbox()

CODE = """
import numpy, pandas
from sklearn.neighbors import KNeighborsClassifier

data = "/kaggle/input/competitions/digits"
train, test = pandas.read_csv(f"{data}/train.csv"), pandas.read_csv(f"{data}/test.csv")
model = KNeighborsClassifier().fit(train.drop(columns=["id", "label"]), train["label"])
labels = model.predict(test.drop(columns="id"))
pandas.DataFrame({"id": test["id"], "label": labels}).to_csv("submission.csv", index=False)
print(len(test), "rows")
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    state = tmp_path / "state"
    with local_host("digits", state=state) as address:
        host = Host(address, state)
        host.services.contests.set_code("digits", True)
        yield host


def submit(user: Caller, slug: str, file: str = "submission.csv") -> int:
    """Submit the kernel's first version with the plain command; the submission's number."""
    kernel = ("-k", f"{user.name}/{slug}", "-v", "1", "-f", file, "-m", "mine")
    submitted = user.kaggle("competitions", "submit", "digits", *kernel)
    assert submitted.returncode == 0, submitted.stderr
    newest = user.call("ListSubmissions", competitionName="digits").json["submissions"][0]
    return int(newest["ref"])


def run_and_submit(
    user: Caller, folder: Path, slug: str, code: str, file: str = "submission.csv"
) -> dict[str, str]:
    push(user, folder / slug, slug, code)
    assert wait_until_run(user, slug)["status"] == "COMPLETE"
    return user.scored(submit(user, slug, file))


def test_the_kernel_is_scored_on_a_test_set_of_other_ids_and_another_size(
    host: Host, tmp_path: Path
) -> None:
    user = host.user("alice")
    file = "a folder/submission.csv"
    code = "import os\nos.mkdir('a folder')\n" + CODE.replace("submission.csv", file)
    scored = run_and_submit(user, tmp_path, "the-kernel", code, file)
    assert scored["fileName"] == file
    assert 0.9 < float(scored["publicScore"]) <= 1
    assert 0.9 < float(scored["privateScore"]) <= 1

    account = host.services.accounts.named("alice")
    assert account is not None
    (submission,) = host.services.submissions.of_user(account, "digits")
    hidden = pd.read_csv(host.services.submissions.blob(submission.blob), dtype=str)
    assert len(hidden) == 300
    assert not set(hidden["id"]) & set(host.solution().index)
    # What the user gets to see is of the known test set.
    output = tmp_path / "output"
    user.kaggle("kernels", "output", "alice/the-kernel", "-p", str(output))
    assert set(pd.read_csv(output / file, dtype=str)["id"]) == set(host.solution().index)
    assert "500 rows" in (output / "the-kernel.log").read_text()
    assert "300 rows" not in (output / "the-kernel.log").read_text()
    assert not list((host.state / "sessions").iterdir())


@pytest.mark.parametrize(
    ("slug", "code", "error"),
    [
        (
            "known-ids",
            "open('submission.csv', 'w').write('id,label\\n' + "
            "''.join(f'{n},0\\n' for n in range(1298, 1798)))",
            "500 ids are unknown",
        ),
        (
            "known-size",
            COPY_SAMPLE + "if open('submission.csv').read().count('\\n') != 501: 1 / 0",
            "The kernel failed on the hidden test set (exit code 1)",
        ),
        (
            "known-rows",
            "data = '/kaggle/input/competitions/digits/'\n"
            "if '1298' in open(data + 'test.csv').read():\n"
            "    text = open(data + 'sample_submission.csv').read()\n"
            "    open('submission.csv', 'w').write(text)",
            "The kernel failed on the hidden test set (it wrote no submission.csv)",
        ),
    ],
)
def test_what_depends_on_the_known_test_set_fails(
    host: Host, tmp_path: Path, slug: str, code: str, error: str
) -> None:
    scored = run_and_submit(host.user("alice"), tmp_path, slug, code)
    assert scored["status"] == "ERROR"
    assert error in scored["errorDescription"]


def test_files_are_refused_until_the_competition_takes_them(host: Host, tmp_path: Path) -> None:
    user = host.user("alice")
    path = tmp_path / "submission.csv"
    path.write_bytes(as_csv(host.solution()["label"]))
    command = ("competitions", "submit", "digits", "-f", str(path), "-m", "mine")
    refused = user.kaggle(*command)
    assert refused.returncode == 1
    assert (
        "is a code competition: submit a version of a kernel (make push VIA=kernel, "
        in refused.stderr
    )
    admin = [sys.executable, "-m", "pipeline.host", "--state", str(host.state)]
    subprocess.run([*admin, "code", "digits", "off"], check=True)
    assert user.kaggle(*command).returncode == 0


def test_a_rerun_of_a_killed_host_is_made_up_for(tmp_path: Path) -> None:
    state = tmp_path / "state"
    slow = CODE + "import time\nif len(test) != 500: time.sleep(2)\n"
    with local_host("digits", state=state) as address:
        host = Host(address, state)
        host.services.contests.set_code("digits", True)
        user = host.user("alice")
        push(user, tmp_path / "kernel", "the-kernel", slow)
        assert wait_until_run(user, "the-kernel")["status"] == "COMPLETE"
        ref = submit(user, "the-kernel")
        while not list((state / "sessions").glob("*/log.jsonl")):
            pass
        os.kill(read_json(state / "server.json")["pid"], signal.SIGKILL)
    with local_host("digits", state=state) as address:
        user = Caller(Host(address, state), "alice", user.key)
        assert user.scored(ref)["status"] == "COMPLETE"
