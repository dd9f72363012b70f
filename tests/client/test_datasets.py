"""The verbs for datasets: the real kaggle client against a server that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.client import datasets
from pipeline.client.client import KaggleClient
from pipeline.errors import CredentialsError, HostError, PipelineError
from tests.client.fault_server import (
    KEY,
    USERNAME,
    Fault,
    FaultServer,
    hang_up,
    refuse,
    send_page,
    then,
)

DATASET = f"{USERNAME}/my-weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.mkdir()
    (made / "one.safetensors").write_bytes(b"first")
    return made


def save(client: KaggleClient, folder: Path) -> None:
    client.datasets.save(folder, DATASET, "My Weights", "the notes")


def test_a_dataset_is_private_and_then_gets_versions(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    assert client.datasets.files(DATASET) is None
    save(client, folder)
    assert client.datasets.files(DATASET) == ["one.safetensors"]
    (folder / "two.safetensors").write_bytes(b"second")
    save(client, folder)
    assert client.datasets.files(DATASET) == ["one.safetensors", "two.safetensors"]
    first, second = server.book.datasets.created
    assert (first["ownerSlug"], first["slug"], first["isPrivate"]) == (USERNAME, "my-weights", True)
    assert second["body"]["versionNotes"] == "the notes"
    metadata = json.loads((folder / "dataset-metadata.json").read_text())
    assert metadata["licenses"] == [{"name": "other"}]


def test_it_waits_until_the_host_has_processed_the_files(
    client: KaggleClient, server: FaultServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_FIRST_PAUSE_SECONDS", 0.01)
    server.book.datasets.states = ["NOT_YET_PERSISTED", "BLOBS_RECEIVED", "READY"]
    save(client, folder)
    assert server.book.count("GetDatasetStatus") >= 4
    server.book.datasets.states = ["BLOBS_RECEIVED"] * 100
    monkeypatch.setattr(datasets, "_SECONDS_TO_GET_READY", 0.0)
    with pytest.raises(HostError, match=r"is blobs_received after 0 minutes; rerun"):
        client.datasets.files(DATASET)


def test_files_that_the_host_cannot_process(
    client: KaggleClient, server: FaultServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_SECONDS_TO_APPEAR", 0.0)
    server.book.datasets.states = ["FAILED"]
    with pytest.raises(HostError, match=f"took the files of {DATASET} but does not list them"):
        save(client, folder)
    server.book.datasets.states = ["FAILED", "READY"]
    save(client, folder)
    assert len(server.book.datasets.versions) == 2


@pytest.mark.parametrize("fault", [hang_up, refuse(500), send_page(504)])
@pytest.mark.parametrize("method", ["CreateDataset", "CreateDatasetVersion"])
def test_an_upload_with_a_lost_answer_is_found_and_not_repeated(
    client: KaggleClient, server: FaultServer, folder: Path, fault: Fault, method: str
) -> None:
    if method == "CreateDatasetVersion":
        save(client, folder)
        (folder / "one.safetensors").rename(folder / "two.safetensors")
    before = len(server.book.datasets.versions)
    server.book.faults[method] = [then(fault)]
    save(client, folder)
    assert len(server.book.datasets.versions) == before + 1


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (refuse(401), CredentialsError, "refused its own user's key"),
        (refuse(403, "verify your phone"), HostError, "HTTP 403: verify your phone"),
        (refuse(500, "broken"), HostError, "broken"),
        (lambda handler: handler.send_bytes(b"", 200), HostError, "uploading"),
    ],
)
def test_a_refused_upload(
    client: KaggleClient,
    server: FaultServer,
    folder: Path,
    fault: Fault,
    error: type[PipelineError],
    words: str,
) -> None:
    server.book.faults["CreateDataset"] = [fault]
    with pytest.raises(error, match=words):
        save(client, folder)
    assert server.book.datasets.versions == []


def test_an_error_in_a_reply_that_looks_like_a_success(
    client: KaggleClient, server: FaultServer, folder: Path
) -> None:
    server.book.datasets.error = f"the title is taken by {KEY}"
    with pytest.raises(HostError, match="did not take alice/my-weights: the title is taken") as err:
        save(client, folder)
    assert KEY not in str(err.value)
