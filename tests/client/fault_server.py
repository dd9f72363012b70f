"""A Kaggle-shaped server on a real socket that misbehaves on demand.

It speaks just what the official client needs, and counts what it is asked. A fault is set per
method of the protocol (`server.faults["ListDataFiles"] = [...]`) and used up call by call.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.client.fault_datasets import Datasets, on_dataset_call
from tests.client.fault_kernels import Kernels, on_kernel_call

USERNAME, KEY, TOKEN = "alice", "4f1d0c7e9b2a4d6f8e0c1a3b5d7f9e2c", "KGAT" + "_0d9c8b7a6f5e4d3c2b1a"
COMPETITION = "digits"
LOOP = "/loop"

Fault = Callable[["Handler"], None]


def refuse(status: int, message: str = "refused", **headers: str) -> Fault:
    """Answer with an error in the protocol's own shape."""
    return lambda handler: handler.send_json(
        {"code": status, "message": message}, status, **headers
    )


def send_page(status: int) -> Fault:
    """Answer with an HTML page, as a proxy in between does."""
    return lambda handler: handler.send_bytes(b"<html>busy</html>", status, "text/html")


def hang_up(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def hang(handler: Handler) -> None:
    """Never answer; ends with the server."""
    handler.server.closing.wait(30)


def redirect_for_ever(handler: Handler) -> None:
    """Send the caller to an address that does the same."""
    handler.send_bytes(b"", 302, Location=f"http://127.0.0.1:{handler.server.port}{LOOP}")


def repeat_key(handler: Handler) -> None:
    """Answer with an error that holds the caller's own secret."""
    sent = handler.headers.get("Authorization", "")
    key = base64.b64decode(sent.split()[1]).decode() if sent.startswith("Basic") else sent
    handler.send_json({"code": 500, "message": f"bad header {sent} of {key}"}, 500)


def then(fault: Fault) -> Fault:
    """Do what was asked, then answer with `fault` instead of the result."""

    def do_and_fail(handler: Handler) -> None:
        handler.replying = False
        handler.operate()
        handler.replying = True
        fault(handler)

    return do_and_fail


@dataclass
class Book:
    """What the server holds: files of the one competition, submissions, limits, faults, a log."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {"train.csv": b"id,label\n1,0\n", "images/1.txt": b"pixels" * 99}
    )
    archive: bytes | None = None
    allowed_a_day: int = 20
    today: int = 3
    status: str = "COMPLETE"
    submissions: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    ranges: list[int] = field(default_factory=list)
    token_is_active: bool = True
    kernels: Kernels = field(default_factory=Kernels)
    datasets: Datasets = field(default_factory=Datasets)

    def count(self, method: str) -> int:
        return self.log.count(method)

    def zipped(self) -> bytes:
        if self.archive is not None:
            return self.archive
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return buffer.getvalue()


class FaultServer(ThreadingHTTPServer):
    """The server; `book` is what it holds."""

    daemon_threads = True

    def __init__(self, handler: type[Handler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.book = Book()
        self.closing = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def next_fault(self, method: str) -> Fault | None:
        """What the call of `method` that is already in the log meets; None: it is answered."""
        faults = self.book.faults.get(method)
        return faults.pop(0) if faults else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer
    replying = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_bytes(b"", 501)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.method = urlsplit(self.path).path.rsplit("/", 1)[-1]
        self._run(self.method)

    def do_PUT(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.method = "PUT"
        self._run("PUT")

    def do_GET(self) -> None:
        self.body = b""
        path = urlsplit(self.path).path
        kinds = {"/kernels/logs/": "StreamLog", "/output/": "DownloadOutput", LOOP: "Loop"}
        self.method = next((name for part, name in kinds.items() if part in path), "GET")
        self._run(self.method)

    def _run(self, method: str) -> None:
        self.server.book.log.append(method)
        fault = self.server.next_fault(method)
        if fault:
            fault(self)
        else:
            self.operate()

    def operate(self) -> None:
        if on_kernel_call(self) or on_dataset_call(self):
            return
        words = self.method if self.method.isupper() else re.sub(r"\B(?=[A-Z])", "_", self.method)
        getattr(self, f"on_{words.lower()}")(self.server.book)

    def on_introspect_token(self, book: Book) -> None:
        self.send_json({"active": book.token_is_active, "username": USERNAME})

    def on_list_data_files(self, book: Book) -> None:
        asked = json.loads(self.body)
        if asked["competitionName"] != COMPETITION:
            refuse(404, "no such competition")(self)
            return
        names = list(book.files)
        start = int(asked.get("pageToken") or 0)
        # Pages of one file each show that the client asks for every page.
        page = [{"name": n, "totalBytes": len(book.files[n])} for n in names[start : start + 1]]
        following = {"nextPageToken": str(start + 1)} if start + 1 < len(names) else {}
        self.send_json({"files": page, **following})

    def on_download_data_files(self, _: Book) -> None:
        location = f"http://127.0.0.1:{self.server.port}/blob/{COMPETITION}.zip"
        self.send_bytes(b"", 302, Location=location)

    def on_get(self, book: Book) -> None:
        content = book.zipped()
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
        book.ranges.append(start)
        status = 206 if "Range" in self.headers else 200
        self.send_bytes(
            content[start:],
            status,
            "application/zip",
            **{"ETag": '"1"', "Accept-Ranges": "bytes"},
            **{"Last-Modified": "Sun, 01 Nov 2026 10:00:00 GMT"},
        )

    def on_loop(self, _: Book) -> None:
        redirect_for_ever(self)

    def on_start_submission_upload(self, _: Book) -> None:
        url = f"http://127.0.0.1:{self.server.port}/upload/1"
        self.send_json({"token": "1", "createUrl": url})

    def on_put(self, book: Book) -> None:
        book.uploads["1"] = self.body
        self.send_json({})

    def on_create_code_submission(self, book: Book) -> None:
        self.on_create_submission(book)
        book.submissions[-1]["asked"] = json.loads(self.body)

    def on_create_submission(self, book: Book) -> None:
        asked = json.loads(self.body)
        ref = 1001 + len(book.submissions)
        scored = {"publicScore": "0.91", "privateScore": "0.89"}
        book.submissions.append(
            {
                "ref": ref,
                "description": asked.get("submissionDescription", ""),
                "date": "2026-11-22T12:00:00.5Z",
                "status": book.status,
                **(scored if book.status == "COMPLETE" else {}),
                **({"errorDescription": "3 ids unknown"} if book.status == "ERROR" else {}),
            }
        )
        book.today += 1
        self.send_json({"message": "Successfully submitted", "ref": ref})

    def on_get_submission(self, book: Book) -> None:
        ref = json.loads(self.body)["ref"]
        found = [s for s in book.submissions if s["ref"] == ref]
        if found:
            self.send_json(found[0])
        else:
            refuse(404, "no such submission")(self)

    def on_list_submissions(self, book: Book) -> None:
        self.send_json({"submissions": book.submissions[::-1]})

    def on_get_submission_limits(self, book: Book) -> None:
        left = max(0, book.allowed_a_day - book.today)
        self.send_json({"numToday": book.today, "numTotal": book.today, "numAllowedNow": left})

    def send_json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send_bytes(json.dumps(value).encode(), status, "application/json", **headers)

    def send_bytes(
        self, body: bytes, status: int = 200, kind: str = "text/plain", **headers: str
    ) -> None:
        if not self.replying:
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def cut_body(handler: Handler) -> None:
    """Promise the whole archive, send half of it and hang up."""
    content = handler.server.book.zipped()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/zip")
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("ETag", '"1"')
    handler.send_header("Accept-Ranges", "bytes")
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


@contextmanager
def running_server() -> Iterator[FaultServer]:
    """A server on a free port of 127.0.0.1."""
    server = FaultServer()
    with serving(server):
        yield server


@contextmanager
def serving(server: FaultServer) -> Iterator[None]:
    """Answer calls meanwhile, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
