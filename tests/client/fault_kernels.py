"""Kernels of the misbehaving server: versions that end at once, as each test wants them to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from tests.client.fault_server import Handler

LOG = [
    {"stream_name": "stdout", "time": 0.1, "data": "epoch 1\n"},
    {"stream_name": "stdout", "time": 0.2, "data": "epoch 2\n"},
]


@dataclass
class Kernels:
    """What the server holds of the one kernel: its versions, and how each will go."""

    saved: list[dict[str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=lambda: ["QUEUED", "RUNNING", "COMPLETE"])
    message: str = ""
    log: str = field(default_factory=lambda: json.dumps(LOG))
    outputs: dict[str, bytes] = field(default_factory=lambda: {"submission.csv": b"id,label\n"})
    unfinished: dict[int, dict[str, bytes]] = field(default_factory=dict)  # by version
    refusal: dict[str, Any] = field(default_factory=dict)
    quota: dict[str, Any] = field(
        default_factory=lambda: {
            "quotaRefreshTime": "2026-11-28T00:00:00Z",
            "gpuQuota": {"timeUsed": "3600s", "totalTimeAllowed": "108000s"},
        }
    )
    asked: list[dict[str, Any]] = field(default_factory=list)

    def version(self, label: str | None) -> tuple[int, dict[str, Any]] | None:
        number = int(label.removeprefix("v")) if label else len(self.saved)
        if not 1 <= number <= len(self.saved):
            return None
        return number, self.saved[number - 1]


def on_kernel_call(handler: Handler) -> bool:
    """Answer a call on kernels; False for any other."""
    answers = {
        "SaveKernel": _save,
        "GetKernel": _get,
        "GetKernelSessionStatus": _status,
        "ListKernelSessionOutput": _output,
        "GetAcceleratorQuotaStatistics": lambda h, k, _: h.send_json(k.quota),
        "StreamLog": _stream,
        "DownloadOutput": _download,
    }
    answer = answers.get(handler.method)
    if answer is None:
        return False
    asked = json.loads(handler.body) if handler.command == "POST" and handler.body else {}
    answer(handler, handler.server.book.kernels, asked)
    return True


def _save(handler: Handler, kernels: Kernels, asked: dict[str, Any]) -> None:
    if "error" in kernels.refusal:
        handler.send_json(kernels.refusal)
        return
    kernels.saved.append({**asked, "looks": 0})
    number = len(kernels.saved)
    url = f"http://localhost/code/{asked['slug']}"
    handler.send_json({"url": url, "versionNumber": number, **kernels.refusal})


def _get(handler: Handler, kernels: Kernels, asked: dict[str, Any]) -> None:
    if found := _found(handler, kernels, asked):
        number, saved = found
        metadata = {"ref": saved["slug"], "currentVersionNumber": number}
        handler.send_json({"metadata": metadata, "blob": {"source": saved["text"]}})


def _status(handler: Handler, kernels: Kernels, asked: dict[str, Any]) -> None:
    if found := _found(handler, kernels, asked):
        saved = found[1]
        state = kernels.states[min(saved["looks"], len(kernels.states) - 1)]
        saved["looks"] += 1
        handler.send_json({"status": state, "failureMessage": kernels.message})


def _output(handler: Handler, kernels: Kernels, asked: dict[str, Any]) -> None:
    found = _found(handler, kernels, asked)
    if not found:
        return
    base = f"http://127.0.0.1:{handler.server.port}/output/?version={found[0]}&name="
    outputs = kernels.unfinished.get(found[0], kernels.outputs)
    files = [{"fileName": name, "url": base + name} for name in outputs]
    start = int(asked.get("pageToken") or 0)
    # Pages of two files show that every page is asked for.
    following = {"nextPageToken": str(start + 2)} if start + 2 < len(files) else {}
    handler.send_json({"files": files[start : start + 2], "log": kernels.log, **following})


def _found(
    handler: Handler, kernels: Kernels, asked: dict[str, Any]
) -> tuple[int, dict[str, Any]] | None:
    kernels.asked.append({"method": handler.method, **asked})
    found = kernels.version(asked.get("versionLabel"))
    if found is None:
        handler.send_json({"code": 404, "message": "no such kernel"}, 404)
    return found


def _stream(handler: Handler, kernels: Kernels, _: dict[str, Any]) -> None:
    events = "".join(f"data: {json.dumps(event)}\n\n" for event in json.loads(kernels.log))
    handler.send_bytes(f"{events}data: END_OF_LOG\n\n".encode(), 200, "text/event-stream")


def _download(handler: Handler, kernels: Kernels, _: dict[str, Any]) -> None:
    asked = parse_qs(urlsplit(handler.path).query)
    outputs = kernels.unfinished.get(int(asked["version"][0]), kernels.outputs)
    handler.send_bytes(outputs[unquote(asked["name"][0])])
