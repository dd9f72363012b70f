"""A live host for the tests, and the two ways to talk to it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.host.lifecycle import HostAddress
from pipeline.host.services import Services
from pipeline.host.state import State

API = "/api/v1"


@dataclass(frozen=True)
class Host:
    """A running host and its state folder."""

    address: HostAddress
    state: Path

    @property
    def services(self) -> Services:
        """The host's own stores, opened beside the running server."""
        return Services.open(State(self.state))

    def user(self, name: str) -> Caller:
        """A new user, so that tests on one host do not meet each other's submissions."""
        return Caller(self, name, self.services.accounts.add(name))

    def solution(self) -> pd.DataFrame:
        """The hidden labels of digits, indexed by id."""
        return self.services.contests.solution("digits")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Caller:
    """One user of a host."""

    host: Host
    name: str
    key: str

    def kaggle(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run the official `kaggle` command as this user, in a new empty home."""
        proxy = f"http://127.0.0.1:{self.host.address.port}"
        home = tempfile.mkdtemp(dir=self.host.state.parent)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "TMPDIR": home,
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": proxy,
            "https_proxy": proxy,
            "KAGGLE_USERNAME": self.name,
            "KAGGLE_KEY": self.key,
            **changed,
        }
        command = [str(Path(sys.executable).with_name("kaggle")), *arguments]
        return subprocess.run(
            command,
            check=False,
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def call(
        self, method: str, *, service: str = "competitions.CompetitionApiService", **body: Any
    ) -> Reply:
        """One API call, without the official client."""
        token = base64.b64encode(f"{self.name}:{self.key}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        return send(
            self.host, "POST", f"{API}/{service}/{method}", json.dumps(body).encode(), headers
        )

    def submit(self, content: bytes) -> dict[str, Any]:
        """Upload and submit a digits CSV; the submission as it is once scored."""
        return self.scored(self.hand_in(content))

    def hand_in(self, content: bytes) -> int:
        """Upload and submit a digits CSV; the number that the host acknowledges it with."""
        started = self.call(
            "StartSubmissionUpload",
            competitionName="digits",
            contentLength=len(content),
            fileName="submission.csv",
        ).json
        assert send(self.host, "PUT", path_of(started["createUrl"]), content).status == 200
        created = self.call(
            "CreateSubmission", competitionName="digits", blobFileTokens=started["token"]
        ).json
        return int(created["ref"])

    def scored(self, ref: int) -> dict[str, Any]:
        """The submission `ref` once it has its score or its error."""
        while True:
            submission: dict[str, Any] = self.call("GetSubmission", ref=ref).json
            if submission["status"] != "PENDING":
                return submission


def send(
    host: Host,
    method: str,
    target: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Reply:
    """One raw HTTP request; `target` goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", host.address.port, timeout=30)
    try:
        connection.request(method, target, body, headers or {}, **options)
        reply = connection.getresponse()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def path_of(url: str) -> str:
    """The path of one of the host's own loopback URLs."""
    scheme, _, address, path = url.split("/", 3)
    assert scheme == "http:"
    assert address.startswith("127.0.0.1:")
    return f"/{path}"


def as_csv(labels: pd.Series) -> bytes:
    """A digits submission with these labels, indexed by id."""
    return labels.rename("label").rename_axis("id").to_csv().encode()
