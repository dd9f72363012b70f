"""The verbs for kernels: the real kaggle client against a server that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.client.client import KaggleClient
from pipeline.client.endpoint import Endpoint
from pipeline.client.kernels import METADATA, KernelStatus, KernelVersion, Quota
from pipeline.client.retries import ATTEMPTS
from pipeline.errors import (
    AccessError,
    ConfigError,
    CredentialsError,
    HostError,
    LimitError,
    PipelineError,
    StorageError,
)
from tests.client.fault_server import (
    COMPETITION,
    KEY,
    USERNAME,
    Fault,
    FaultServer,
    hang_up,
    refuse,
    repeat_key,
    send_page,
    then,
)

KERNEL = f"{USERNAME}/digits-subkernel"
MARKER = "subkernel-kernel-1a2b3c4d"
FIRST = KernelVersion(KERNEL, 1)


def write_kernel(folder: Path, kernel: str = KERNEL) -> Path:
    folder.mkdir()
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["# Digits\n", f"Push: `{MARKER}`"]}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "digits-subkernel.ipynb").write_text(json.dumps(notebook))
    metadata = {
        "id": kernel,
        "title": "Digits Subkernel",
        "code_file": "digits-subkernel.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "competition_sources": [COMPETITION],
    }
    (folder / METADATA).write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_kernel(tmp_path / "kernel")


def push(client: KaggleClient, folder: Path) -> KernelVersion:
    return client.kernels.push(folder, marker=MARKER, after=0)


def test_kernel_is_pushed_and_followed(
    client: KaggleClient, server: FaultServer, folder: Path, tmp_path: Path
) -> None:
    kernels = client.kernels
    assert kernels.latest_version(KERNEL) == 0
    pushed = push(client, folder)
    assert pushed == FIRST
    assert kernels.latest_version(KERNEL) == 1
    (saved,) = server.book.kernels.saved
    assert (saved["slug"], saved["competitionDataSources"]) == (KERNEL, [COMPETITION])
    assert [kernels.status(pushed).state for _ in range(3)] == ["QUEUED", "RUNNING", "COMPLETE"]
    assert kernels.log(pushed) == "epoch 1\nepoch 2\n"
    assert {each.get("versionLabel") for each in server.book.kernels.asked[-4:]} == {"v1"}


def test_quota_is_read(client: KaggleClient, server: FaultServer) -> None:
    quota = client.kernels.quota()
    assert quota == Quota(3600.0, 108000.0, "2026-11-28T00:00:00Z")
    assert str(quota) == "1.0 of 30.0 GPU hours used"
    assert not quota.exhausted
    server.book.kernels.quota = {}
    assert client.kernels.quota() is None


def test_owner_comes_from_the_credentials(client: KaggleClient) -> None:
    assert client.kernels.owner() == USERNAME


def test_owner_comes_from_the_token(endpoint: Endpoint) -> None:
    environment = {
        name: value
        for name, value in endpoint.environment.items()
        if name not in {"KAGGLE_USERNAME", "KAGGLE_KEY"}
    } | {"KAGGLE_API_TOKEN": "KGAT_1"}
    with KaggleClient(Endpoint(name="local", instance="1", environment=environment)) as opened:
        assert opened.kernels.owner() == USERNAME


def test_output_of_every_page_is_saved(
    client: KaggleClient, server: FaultServer, folder: Path, tmp_path: Path
) -> None:
    outputs = {f"submissions/digits/run/{n} .txt": b"%d" % n for n in range(5)}
    server.book.kernels.outputs = outputs
    names = client.kernels.output(push(client, folder), tmp_path / "out", lambda _: None)
    assert names == list(outputs)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == outputs


@pytest.mark.usefixtures("no_pauses")
def test_broken_output_is_fetched_again_without_what_is_there(
    client: KaggleClient, server: FaultServer, folder: Path, tmp_path: Path
) -> None:
    server.book.kernels.outputs = {"a": b"1", "b": b"2", "c": b"3"}
    pushed = push(client, folder)
    ok: Fault = lambda handler: handler.operate()  # noqa: E731
    server.book.faults["DownloadOutput"] = [ok, hang_up, send_page(503)]
    client.kernels.output(pushed, tmp_path / "out", lambda _: None)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == (
        server.book.kernels.outputs
    )
    assert server.book.count("DownloadOutput") == 5


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "a/../../escape", "a\\..\\b", ""])
def test_output_stays_inside_its_folder(
    client: KaggleClient, server: FaultServer, folder: Path, tmp_path: Path, name: str
) -> None:
    server.book.kernels.outputs = {name: b"x"}
    with pytest.raises(HostError, match="lie outside its folder"):
        client.kernels.output(push(client, folder), tmp_path / "out", lambda _: None)
    assert not list(tmp_path.rglob("*escape*"))


def test_unwritable_output_folder(
    client: KaggleClient, server: FaultServer, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="fetching the output"):
        client.kernels.output(push(client, folder), tmp_path / "out", lambda _: None)


def test_log_is_followed(client: KaggleClient, folder: Path) -> None:
    assert followed(client, push(client, folder)) == ["epoch 1\n", "epoch 2\n"]


def test_log_of_the_next_version_is_followed_from_its_start(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    followed(client, push(client, folder))
    events = [{"data": f"epoch {number}\n"} for number in (3, 4)]
    server.book.kernels.log = json.dumps(events)
    second = client.kernels.push(folder, marker="none", after=1)
    assert followed(client, second) == ["epoch 3\n", "epoch 4\n"]


def followed(client: KaggleClient, pushed: KernelVersion) -> list[str]:
    """The log's first two events."""
    seen: list[str] = []
    while len(seen) < 2:
        seen += client.kernels.follow_log(pushed, len(seen))
    return seen


def test_log_that_is_no_json_is_kept_as_it_is(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.kernels.log = f"plain, with {KEY}"
    assert client.kernels.log(push(client, folder)) == "plain, with ***"


def test_failed_kernel_is_told(client: KaggleClient, server: FaultServer, folder: Path) -> None:
    server.book.kernels.states, server.book.kernels.message = ["ERROR"], f"out of memory {KEY}"
    status = client.kernels.status(push(client, folder))
    assert status == KernelStatus("ERROR", "out of memory ***")
    assert status.ended


def test_error_in_a_successful_reply_is_an_error(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.kernels.refusal = {"error": "Notebook not found"}
    with pytest.raises(HostError, match=r"did not take alice/digits-subkernel: Notebook not found"):
        push(client, folder)


def test_source_that_was_not_attached_is_an_error(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.kernels.refusal = {"invalidCompetitionSources": [COMPETITION]}
    with pytest.raises(AccessError, match=r"1 sources .* first 'digits'; accept the .* rules"):
        push(client, folder)


def test_reply_without_a_version_is_an_error(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.faults["SaveKernel"] = [lambda handler: handler.send_json({})]
    with pytest.raises(HostError, match="no version"):
        push(client, folder)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (refuse(401), CredentialsError, "refused its own user's key"),
        (refuse(403, "rules"), AccessError, "accept the rules"),
        (refuse(400, "title is taken"), HostError, "HTTP 400: title is taken"),
        (refuse(413, "source over 1 MB"), HostError, "source over 1 MB"),
        (refuse(400, "the GPU quota is used up"), LimitError, "GPU quota is used up"),
        (refuse(429, "GPU quota used up"), LimitError, "GPU quota used up"),
        (refuse(429, "slow down"), HostError, "too many requests"),
        (refuse(500, "broken"), HostError, "has no version of it"),
        (send_page(502), HostError, "has no version of it"),
        (hang_up, HostError, "has no version of it"),
        (lambda handler: handler.send_bytes(b"", 200), HostError, "has no version of it"),
    ],
)
@pytest.mark.usefixtures("no_pauses")
def test_refused_push(
    client: KaggleClient,
    server: FaultServer,
    folder: Path,
    fault: Fault,
    error: type[PipelineError],
    words: str,
) -> None:
    server.book.faults["SaveKernel"] = [fault] * ATTEMPTS
    with pytest.raises(error) as caught:
        push(client, folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    # Only "too many requests" says that nothing was done; all else is not tried again.
    assert server.book.count("SaveKernel") == (ATTEMPTS if "429" in str(caught.value) else 1)


@pytest.mark.parametrize("fault", [hang_up, refuse(500), send_page(504)])
def test_push_with_a_lost_answer_is_found_and_not_repeated(
    client: KaggleClient, server: FaultServer, folder: Path, fault: Fault
) -> None:
    server.book.faults["SaveKernel"] = [then(fault)]
    assert push(client, folder) == FIRST
    assert server.book.count("SaveKernel") == 1


def test_older_versions_are_searched_as_far_as_asked(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    push(client, folder)
    server.book.kernels.saved.append({"slug": KERNEL, "text": "edited by hand", "looks": 0})
    assert client.kernels.pushed_version(KERNEL, MARKER, after=0) == FIRST
    assert client.kernels.pushed_version(KERNEL, MARKER, after=1) is None


def test_short_slug_is_refused_before_anything_is_sent(
    client: KaggleClient, server: FaultServer, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"slug 'abc' has 3 characters"):
        push(client, write_kernel(tmp_path / "short", "alice/abc"))
    assert server.book.log == []


@pytest.mark.parametrize("content", ["", "{}", '{"id": 5}', '{"id": "no-owner"}', "[]"])
def test_metadata_without_a_name(client: KaggleClient, folder: Path, content: str) -> None:
    (folder / METADATA).write_text(content)
    with pytest.raises(ConfigError, match="names no kernel"):
        push(client, folder)


def test_secrets_stay_out_of_errors(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.kernels.refusal = {"error": f"bad key {KEY}"}
    with pytest.raises(HostError) as caught:
        push(client, folder)
    server.book.faults["SaveKernel"] = [repeat_key]
    with pytest.raises(HostError) as again:
        push(client, folder)
    assert KEY not in str(caught.value) + str(again.value)


def test_version_not_found_yet_counts_as_queued(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    pushed = push(client, folder)
    server.book.faults["GetKernelSessionStatus"] = [refuse(404)]
    assert client.kernels.status(pushed).state == "QUEUED"


def test_kernel_is_submitted_by_version(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    ref = client.submit_kernel(COMPETITION, push(client, folder), "submission.csv", "mine")
    (made,) = server.book.submissions
    assert (made["ref"], made["description"]) == (ref, "mine")
    expected = {
        "competitionName": COMPETITION,
        "kernelOwner": USERNAME,
        "kernelSlug": "digits-subkernel",
        "kernelVersion": 1,
        "fileName": "submission.csv",
    }
    assert expected.items() <= made["asked"].items()


def test_kernel_submission_with_a_lost_answer_is_found(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    pushed = push(client, folder)
    server.book.faults["CreateCodeSubmission"] = [then(hang_up)]
    assert client.submit_kernel(COMPETITION, pushed, "submission.csv", "mine") == 1001
    assert server.book.count("CreateCodeSubmission") == 1


def test_kernel_submission_over_the_limit(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.today = server.book.allowed_a_day
    server.book.faults["CreateCodeSubmission"] = [refuse(400, "daily limit")]
    with pytest.raises(LimitError, match="takes no more submissions today"):
        client.submit_kernel(COMPETITION, push(client, folder), "submission.csv", "mine")
