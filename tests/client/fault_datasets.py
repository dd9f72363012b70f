"""Datasets of the misbehaving server: versions that are processed as each test wants them to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.client.fault_server import Handler


@dataclass
class Datasets:
    """What the server holds of the one dataset: the names in each version, and what it says."""

    created: list[dict[str, Any]] = field(default_factory=list)
    versions: list[list[str]] = field(default_factory=list)
    uploading: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    error: str = ""


def on_dataset_call(handler: Handler) -> bool:
    """Answer a call on datasets; False for any other."""
    answers = {
        "StartBlobUpload": _start,
        "CreateDataset": _create,
        "CreateDatasetVersion": _create,
        "GetDatasetStatus": _status,
        "ListDatasetFiles": _files,
    }
    answer = answers.get(handler.method)
    if answer is None:
        return False
    answer(handler, handler.server.book.datasets, json.loads(handler.body))
    return True


def _start(handler: Handler, datasets: Datasets, asked: dict[str, Any]) -> None:
    datasets.uploading.append(asked["name"])
    url = f"http://127.0.0.1:{handler.server.port}/upload/1"
    handler.send_json({"token": "1", "createUrl": url})


def _create(handler: Handler, datasets: Datasets, asked: dict[str, Any]) -> None:
    if datasets.error:
        handler.send_json({"status": "error", "error": datasets.error})
        return
    if not datasets.uploading:
        handler.send_json({"code": 400, "message": "these files were used already"}, 400)
        return
    datasets.created.append(asked)
    datasets.versions.append(sorted(datasets.uploading))
    datasets.uploading = []
    handler.send_json({"status": "Ok"})


def _status(handler: Handler, datasets: Datasets, asked: dict[str, Any]) -> None:
    if datasets.versions:
        handler.send_json({"status": datasets.states.pop(0) if datasets.states else "READY"})
    else:
        handler.send_json({"code": 404, "message": "no such dataset"}, 404)


def _files(handler: Handler, datasets: Datasets, asked: dict[str, Any]) -> None:
    names = datasets.versions[-1]
    start = int(asked.get("pageToken") or 0)
    # Pages of one file show that every page is asked for.
    following = {"nextPageToken": str(start + 1)} if start + 1 < len(names) else {}
    handler.send_json(
        {"datasetFiles": [{"name": name} for name in names[start : start + 1]], **following}
    )
