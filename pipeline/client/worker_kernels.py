"""The worker's operations on kernels.

The client's own methods for status, log and output forget which version was asked for, and its
output method trusts names and statuses; so these call the client's service directly.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.client.worker_api import signed_in_api

PAGE_SIZE = 100
_CHUNK_BYTES = 1 << 20
_SECONDS_WITHOUT_BYTES = 60


def get_owner() -> str | None:
    """The user's name, as the credentials or the host tell it."""
    api = signed_in_api()
    name: str | None = api.get_config_value(api.CONFIG_NAME_USER)
    return name


def get_quota() -> dict[str, Any] | None:
    """The GPU seconds of this week; None where the host counts none."""
    statistics = signed_in_api().quota_view()
    quota, refresh = statistics.gpu_quota, statistics.quota_refresh_time
    if quota is None:
        return None
    # The client drops the zone; the host's times are UTC.
    return {
        "used": quota.time_used.total_seconds(),
        "allowed": quota.total_time_allowed.total_seconds(),
        "refreshes_at": f"{refresh.isoformat(timespec='seconds')}Z" if refresh else None,
    }


def push_kernel(folder: str) -> dict[str, Any]:
    """Save the folder's kernel as a new version and run it; whatever the host says of it."""
    reply = signed_in_api().kernels_push(folder)
    return {
        "version": reply.version_number or 0,
        "error": reply.error or "",
        "refused_sources": [
            *(reply.invalid_competition_sources or []),
            *(reply.invalid_dataset_sources or []),
            *(reply.invalid_kernel_sources or []),
            *(reply.invalid_model_sources or []),
        ],
    }


def get_kernel(kernel: str, version: int | None) -> dict[str, Any]:
    """Source and number of a version, the latest for None."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

    reply = _service_call("get_kernel", _request(ApiGetKernelRequest, kernel, version))
    return {"version": reply.metadata.current_version_number, "source": reply.blob.source}


def get_status(kernel: str, version: int) -> dict[str, str]:
    """How far a version has come."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

    request = _request(ApiGetKernelSessionStatusRequest, kernel, version)
    reply = _service_call("get_kernel_session_status", request)
    return {"state": reply.status.name, "message": reply.failure_message or ""}


def get_log(kernel: str, version: int) -> str:
    """The log of a version that has ended."""
    return _output_page(kernel, version, None).log or ""


def get_output(kernel: str, version: int, folder: str, most: int) -> list[str]:
    """Save every output file of a version; returns their names.

    A file of an earlier, broken call is kept: files appear whole, and a version never changes.
    """
    names: list[str] = []
    token = None
    while token != "":
        page = _output_page(kernel, version, token)
        for file in page.files or []:
            _save(file.url, _inside(Path(folder), file.file_name))
            names.append(file.file_name)
        if len(names) > most:
            raise ValueError(f"more than {most} output files")
        token = page.next_page_token or ""
    return names


class LogReader(threading.Thread):
    """Collects the events of a kernel's log as they come, until the log or the connection ends."""

    def __init__(self, kernel: str) -> None:
        super().__init__(daemon=True)
        self.texts: list[str] = []
        self._kernel = kernel

    def run(self) -> None:
        # A stream cut short needs no word: who asks again gets a new reader.
        from requests import RequestException

        try:
            for event in signed_in_api().kernels_logs_stream(self._kernel):
                self.texts.append(str(event.get("data") or ""))
        except (RequestException, ValueError) as err:
            print(f"log of {self._kernel}: {type(err).__name__}", flush=True)


_readers: dict[tuple[str, int], LogReader] = {}


def follow_log(kernel: str, version: int, seen: int) -> list[str]:
    """What came to the latest version's log after the first `seen` events; does not wait."""
    reader = _readers.get((kernel, version))
    if reader is None or not reader.is_alive():
        known = reader.texts if reader else []
        if len(known) > seen:
            return known[seen:]
        reader = _readers[kernel, version] = LogReader(kernel)
        reader.start()
    return reader.texts[seen:]


def _request(kind: Any, kernel: str, version: int | None) -> Any:
    request = kind()
    request.user_name, request.kernel_slug = kernel.split("/")
    if version is not None:
        request.version_label = f"v{version}"
    return request


def _service_call(method: str, request: Any) -> Any:
    with signed_in_api().build_kaggle_client() as client:
        return getattr(client.kernels.kernels_api_client, method)(request)


def _output_page(kernel: str, version: int, token: str | None) -> Any:
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    request = _request(ApiListKernelSessionOutputRequest, kernel, version)
    request.page_size = PAGE_SIZE
    if token:
        request.page_token = token
    return _service_call("list_kernel_session_output", request)


def _inside(folder: Path, name: str) -> Path:
    """Where an output file goes; a name that would leave the folder is an error of the host."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or {"\\", "\0"} & set(name):
        raise ValueError(f"the output file {name!r} is named to lie outside its folder")
    return folder / path


def _save(url: str, path: Path) -> None:
    import requests

    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with requests.get(url, stream=True, timeout=_SECONDS_WITHOUT_BYTES) as response:
        response.raise_for_status()
        with partial.open("wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
    os.replace(partial, path)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "owner": get_owner,
    "quota": get_quota,
    "push_kernel": push_kernel,
    "kernel": get_kernel,
    "kernel_status": get_status,
    "kernel_log": get_log,
    "kernel_output": get_output,
    "follow_kernel_log": follow_log,
}
