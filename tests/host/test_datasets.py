"""`kaggle datasets create|version|status` against a live host, and a kernel that reads one."""

from __future__ import annotations

import json
from pathlib import Path

from tests.host.pushing import KERNELS, needs_sandbox, save, wait_until_run
from tests.host.running import Caller, Host, send

DATASETS = "datasets.DatasetApiService"
BLOBS = "blobs.BlobApiService"


def write_dataset(folder: Path, owner: str, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    metadata = {"id": f"{owner}/my-weights", "title": "My weights", "licenses": [{"name": "MIT"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    return folder


def test_dataset_is_created_and_gets_versions(user: Caller, host: Host, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", user.name, weights="first", config="{}")
    assert user.kaggle("datasets", "status", f"{user.name}/my-weights").returncode == 1
    created = user.kaggle("datasets", "create", "-p", str(folder))
    assert created.returncode == 0
    assert "is being created" in created.stdout
    again = user.kaggle("datasets", "create", "-p", str(folder))
    assert "is already in use by a dataset" in again.stdout
    assert user.kaggle("datasets", "status", f"{user.name}/my-weights").stdout == "ready"

    write_dataset(folder, user.name, weights="second")
    changed = user.kaggle("datasets", "version", "-p", str(folder), "-m", "better")
    assert changed.returncode == 0, changed.stderr
    named = {"ownerSlug": user.name, "datasetSlug": "my-weights"}
    found = user.call("GetDataset", service=DATASETS, **named).json
    assert (found["currentVersionNumber"], found["isPrivate"]) == (2, True)
    stored = host.services.datasets.find(user.name, user.name, "my-weights")
    assert stored is not None
    files = host.services.datasets.files(stored.ref)
    assert {p.name: p.read_text() for p in files.iterdir()} == {"weights": "second", "config": "{}"}

    listed = user.kaggle("datasets", "files", f"{user.name}/my-weights", "-v")
    assert [line.split(",")[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["config", "2"],
        ["weights", "6"],
    ]
    other = host.user(f"{user.name}-other")
    assert other.call("GetDatasetStatus", service=DATASETS, **named).status == 404
    stolen = save(other, "the-kernel", "1", datasetDataSources=[f"{user.name}/my-weights"])
    assert f"dataset_sources ['{user.name}/my-weights']" in stolen.json["message"]


def test_bad_uploads(user: Caller, host: Host) -> None:
    def start(name: str) -> tuple[int, dict[str, str]]:
        reply = user.call("StartBlobUpload", service=BLOBS, name=name, contentLength=3)
        return reply.status, reply.json

    for name in ("../escape", "a\0b", "\xe9" * 128):
        assert start(name)[0] == 400
    status, started = start("weights")
    assert status == 200
    path = "/dataset-uploads/" + started["token"]
    assert send(host, "PUT", path, b"", {"Content-Range": "bytes */3"}).status == 308
    assert send(host, "PUT", path, b"too long").status == 400
    create = {"slug": "my-weights", "title": "My weights", "files": [{"token": started["token"]}]}
    refused = user.call("CreateDataset", service=DATASETS, **create)
    assert (refused.status, "never received: ['weights']" in refused.json["message"]) == (400, True)
    assert send(host, "PUT", path, b"yes").status == 200
    assert user.call("CreateDataset", service=DATASETS, **create).status == 200
    assert user.call("CreateDataset", service=DATASETS, **create).status == 409
    assert send(host, "PUT", path, b"yes").status == 404


def test_kernels_are_listed_by_what_they_read(user: Caller, host: Host) -> None:
    started = user.call("StartBlobUpload", service=BLOBS, name="weights", contentLength=3).json
    send(host, "PUT", "/dataset-uploads/" + started["token"], b"yes")
    files = [{"token": started["token"]}]
    user.call("CreateDataset", service=DATASETS, slug="my-weights", title="Mine", files=files)
    assert save(user, "the-maker", "1", kernelExecutionType="QUICK_SAVE").status == 200
    maker = host.services.kernels.find(user.name, user.name, "the-maker")
    assert maker is not None
    host.services.kernels.finish(maker, "")
    read = {
        "datasetDataSources": [f"{user.name}/my-weights"],
        "kernelDataSources": [f"{user.name}/the-maker/1"],
    }
    assert save(user, "the-reader", "1", kernelExecutionType="QUICK_SAVE", **read).status == 200

    def listed(**filters: str) -> list[str]:
        reply = user.call("ListKernels", service=KERNELS, group="PROFILE", **filters)
        return [kernel["slug"] for kernel in reply.json["kernels"]]

    assert listed(dataset=f"{user.name}/my-weights") == ["the-reader"]
    assert listed(dataset=f"{user.name}/my-weight") == []
    assert listed(parentKernel=f"{user.name}/the-maker") == ["the-reader"]
    assert listed(language="r") == []
    assert listed(language="python") == ["the-reader", "the-maker"]


@needs_sandbox()
def test_kernel_reads_a_dataset(user: Caller, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", user.name, weights="42")
    assert user.kaggle("datasets", "create", "-p", str(folder), "-q").returncode == 0
    code = "print(open('/kaggle/input/my-weights/weights').read())"
    saved = save(user, "the-kernel", code, datasetDataSources=[f"{user.name}/my-weights"])
    assert saved.status == 200
    assert wait_until_run(user, "the-kernel") == {"status": "COMPLETE"}
    assert user.kaggle("kernels", "logs", f"{user.name}/the-kernel", "--follow").stdout == "42\n"
