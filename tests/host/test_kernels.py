"""`kaggle kernels` and `competitions submit -k -v` against a live host that runs the kernels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.host.pushing import (
    COPY_SAMPLE,
    KERNELS,
    needs_sandbox,
    notebook,
    push,
    save,
    wait_until_run,
    write_kernel,
)
from tests.host.running import Caller, Host

pytestmark = needs_sandbox()


def test_from_push_to_score(user: Caller, tmp_path: Path) -> None:
    name = f"{user.name}/my-kernel"
    code = notebook("import sys\nprint('to stderr', file=sys.stderr)", COPY_SAMPLE + "print('end')")
    pushed = push(user, tmp_path / "kernel", "my-kernel", code)
    assert "Kernel version 1 successfully pushed." in pushed

    followed = user.kaggle("kernels", "logs", name, "--follow")
    # The kernel flushes its two streams by itself, in either order.
    assert sorted(followed.stdout.splitlines()) == ["end", "to stderr"]
    status = user.kaggle("kernels", "status", name)
    assert status.stdout == f'{name} has status "KernelWorkerStatus.COMPLETE"\n'

    output = user.kaggle("kernels", "output", name, "-p", str(tmp_path / "output"))
    assert output.returncode == 0
    assert sorted(p.name for p in (tmp_path / "output").iterdir()) == [
        "my-kernel.log",
        "submission.csv",
    ]
    log = json.loads((tmp_path / "output/my-kernel.log").read_text())
    assert [(e["stream_name"], e["data"]) for e in log] == [
        ("stderr", "to stderr\n"),
        ("stdout", "end\n"),
    ]
    files = user.kaggle("kernels", "files", name, "-v")
    assert pd.read_csv(io.StringIO(files.stdout))["name"].tolist() == ["submission.csv"]

    arguments = ("competitions", "submit", "digits", "-k", name, "-v", "1", "-m", "by kernel")
    submitted = user.kaggle(*arguments, "-f", "submission.csv")
    assert submitted.returncode == 0, submitted.stderr
    [scored] = user.call("ListSubmissions", competitionName="digits").json["submissions"]
    assert user.scored(scored["ref"])["publicScore"]
    missing = user.kaggle(*arguments, "-f", "other.csv")
    assert missing.returncode == 1
    assert "wrote no file 'other.csv'; it wrote submission.csv" in missing.stderr


def test_pull_gives_back_what_was_pushed(user: Caller, tmp_path: Path) -> None:
    pushed = {
        "enable_gpu": True,
        "machine_shape": "NvidiaTeslaT4",
        "keywords": ["computer-vision"],
    }
    push(user, tmp_path / "first", "my-script", "print(1)\n", **pushed)
    push(user, tmp_path / "second", "my-script", "print(2)\n", **pushed)
    name = f"{user.name}/my-script"
    pulled = user.kaggle("kernels", "pull", name, "-m", "-p", str(tmp_path / "pulled"))
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "pulled/my-script.py").read_text() == "print(2)\n"
    before = json.loads((tmp_path / "second/kernel-metadata.json").read_text())
    after = json.loads((tmp_path / "pulled/kernel-metadata.json").read_text())
    del before["code_file"]
    assert before.items() <= after.items()
    user.kaggle("kernels", "pull", f"{name}/1", "-p", str(tmp_path / "old"))
    assert (tmp_path / "old/my-script.py").read_text() == "print(1)\n"


def test_failed_kernel_keeps_its_log_and_gives_no_files(user: Caller, tmp_path: Path) -> None:
    code = notebook(COPY_SAMPLE, "values = []\nvalues[3]")
    push(user, tmp_path / "kernel", "my-failure", code)
    assert wait_until_run(user, "my-failure")["status"] == "ERROR"
    name = f"{user.name}/my-failure"
    status = user.kaggle("kernels", "status", name)
    assert 'has status "KernelWorkerStatus.ERROR"' in status.stdout
    assert '"exit code 1: IndexError: list index out of range"' in status.stdout
    user.kaggle("kernels", "output", name, "-p", str(tmp_path / "output"))
    assert [p.name for p in (tmp_path / "output").iterdir()] == ["my-failure.log"]
    log = json.loads((tmp_path / "output/my-failure.log").read_text())
    text = "".join(event["data"] for event in log)
    assert "values[3]" in text
    assert "\x1b" not in text
    arguments = ("submit", "digits", "-k", name, "-v", "1", "-f", "submission.csv", "-m", "mine")
    refused = user.kaggle("competitions", *arguments)
    assert refused.returncode == 1
    assert f"{name} version 1 is ERROR, not COMPLETE" in refused.stderr


def test_outputs_are_paged_and_attached_to_the_next_kernel(user: Caller, tmp_path: Path) -> None:
    make = (
        "import os\nos.mkdir('a folder')\n"
        "for n in range(25): open(f'a folder/{n:02d} é.txt', 'w').write(str(n))\n"
        "os.symlink('/etc/passwd', 'link')\nos.mkfifo('pipe')\nos.chmod('a folder', 0)\n"
    )
    push(user, tmp_path / "maker", "the-maker", make)
    assert wait_until_run(user, "the-maker")["status"] == "COMPLETE"
    name = f"{user.name}/the-maker"
    user.kaggle("kernels", "output", name, "-p", str(tmp_path / "output"))
    found = sorted(p for p in (tmp_path / "output").rglob("*") if p.is_file())
    assert [p.read_text() for p in found] == [str(n) for n in range(25)]

    read = "print(open('/kaggle/input/the-maker/a folder/07 é.txt').read())"
    push(user, tmp_path / "reader", "the-reader", read, kernel_sources=[name])
    assert wait_until_run(user, "the-reader")["status"] == "COMPLETE"
    assert user.kaggle("kernels", "logs", f"{user.name}/the-reader", "--follow").stdout == "7\n"
    unknown = save(user, "the-reader", "1", kernelDataSources=[f"{name}/2"])
    assert (unknown.status, unknown.json["message"]) == (
        400,
        f"not on this host, or not yours to see: kernel_sources ['{name}/2']",
    )


def test_private_kernels_are_seen_by_their_owner_only(host: Host, user: Caller) -> None:
    other = host.user(f"{user.name}-other")
    assert save(user, "private-one", "1").status == 200
    assert save(user, "public-one", "1", isPrivate=False).status == 200
    assert "private-one" in user.kaggle("kernels", "list", "--mine").stdout
    listed = other.kaggle("kernels", "list", "--user", user.name).stdout
    assert "public-one" in listed
    assert "private-one" not in listed
    hidden = other.kaggle("kernels", "status", f"{user.name}/private-one")
    assert hidden.returncode == 1
    assert "private-one not found on this host, or private" in hidden.stderr
    for method in ("GetKernel", "ListKernelFiles", "ListKernelSessionOutput"):
        name = {"userName": user.name, "kernelSlug": "private-one"}
        assert other.call(method, service=KERNELS, **name).status == 404
    wait_until_run(user, "public-one")
    attached = [f"{user.name}/private-one"]
    assert save(other, "the-thief", "1", kernelDataSources=attached).status == 400


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"newTitle": "Another title"}, 400, "'Another title' makes the slug 'another-title'"),
        ({"slug": "tiny", "newTitle": ""}, 400, "at least 5 characters"),
        ({"slug": "someone-else/the-kernel"}, 403, "cannot push to 'someone-else/the-kernel'"),
        ({"id": 4711}, 404, "you have no kernel with the id_no 4711"),
        ({"text": " "}, 400, "the source is empty"),
        ({"text": "#" * (2**20 + 1)}, 413, "1048577 bytes; at most 1048576"),
        ({"kernelType": "notebook", "text": "{}"}, 400, "the notebook is not valid"),
        ({"kernelType": "notebook", "text": "[]"}, 400, "the notebook is not valid"),
        ({"kernelType": "notebook", "text": '{"cells": 5}'}, 400, "the notebook is not valid"),
        ({"competitionDataSources": ["no-such"]}, 400, "competition_sources ['no-such']"),
        ({"datasetDataSources": ["a/b-data"]}, 400, "dataset_sources ['a/b-data']"),
        ({"enableTpu": True}, 400, "this host has no TPU"),
        ({"language": "r"}, 400, "body.language"),
    ],
)
def test_bad_pushes(user: Caller, changed: dict[str, object], status: int, message: str) -> None:
    refused = save(user, "the-kernel", "1", **changed)
    assert refused.status == status
    assert message in refused.json["message"]
    assert not user.call("ListKernels", service=KERNELS, group="PROFILE").json["kernels"]


def test_refused_pushes_fail_in_the_shell(host: Host, user: Caller, tmp_path: Path) -> None:
    owner = host.services.accounts.named(user.name)
    assert owner is not None
    host.services.kernels.set_gpu_hours(owner, 0)
    write_kernel(tmp_path / "gpu", user.name, "gpu-kernel", "1", enable_gpu=True)
    refused = user.kaggle("kernels", "push", "-p", str(tmp_path / "gpu"))
    assert refused.returncode == 1
    assert "the GPU quota is used up: 0.0 of 0.0 h" in refused.stderr
    assert "0.00h" in user.kaggle("quota").stdout

    host.services.accounts.set_rules(owner, "digits", accepted=False)
    write_kernel(tmp_path / "cpu", user.name, "cpu-kernel", "1")
    refused = user.kaggle("kernels", "push", "-p", str(tmp_path / "cpu"))
    assert refused.returncode == 1
    assert f"{user.name} must accept the rules of 'digits' first" in refused.stderr
