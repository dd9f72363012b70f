"""No key or token is ever shown, whatever fails, even in the client's verbose mode."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest

from pipeline.client.client import KaggleClient
from pipeline.client.endpoint import Endpoint, local_endpoint
from pipeline.client.retries import ATTEMPTS
from pipeline.errors import PipelineError
from tests.client.fault_server import (
    COMPETITION,
    KEY,
    TOKEN,
    USERNAME,
    Fault,
    FaultServer,
    hang,
    hang_up,
    refuse,
    repeat_key,
    send_page,
)

SECRETS = (KEY, TOKEN, base64.b64encode(f"{USERNAME}:{KEY}".encode()).decode())
VERBOSE = {"VERBOSE": "true", "VERBOSE_OUTPUT": "1"}


def endpoints(server: FaultServer, scratch: Path) -> list[Endpoint]:
    """The local host's endpoint, and the same server taken for kaggle.com, signed in by token."""
    local = local_endpoint(server.port, USERNAME, KEY, "1", scratch=scratch)
    environment = {**local.environment, "KAGGLE_API_TOKEN": TOKEN}
    return [local, Endpoint(name="kaggle", instance="kaggle.com", environment=environment)]


FAULTS = [
    refuse(400),
    refuse(401),
    refuse(403),
    refuse(404),
    refuse(429),
    refuse(500),
    send_page(502),
    hang,
    hang_up,
    repeat_key,
    lambda handler: handler.send_bytes(b"no json"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("no_pauses")
def test_failures_show_no_secret(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    for name, value in VERBOSE.items():
        monkeypatch.setenv(name, value)
    for endpoint in endpoints(server, tmp_path):
        server.book.faults["GetSubmissionLimits"] = [fault] * ATTEMPTS
        with (
            KaggleClient(endpoint, timeout=3) as client,
            pytest.raises(PipelineError) as caught,
        ):
            client.limits(COMPETITION)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        check(shown + "".join(capfd.readouterr()))
    check("".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file()))


def test_a_verdict_shows_no_secret(client: KaggleClient, server: FaultServer) -> None:
    """The host's words go into the ledger."""
    server.book.submissions.append(
        {"ref": 1, "status": "ERROR", "errorDescription": f"bad file of {KEY}"}
    )
    assert client.submission(1).error == "bad file of ***"


def test_a_long_message_is_not_cut_within_a_secret(
    client: KaggleClient, server: FaultServer
) -> None:
    """Of which the part ahead of the cut would then be shown."""
    server.book.faults["GetSubmissionLimits"] = [refuse(400, "x" * 290 + KEY)]
    with pytest.raises(PipelineError, match=r"xxx\*\*\*") as caught:
        client.limits(COMPETITION)
    assert KEY[:4] not in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_token_with_a_line_end_is_not_shown(
    server: FaultServer, tmp_path: Path, end: str
) -> None:
    """HTTP refuses it, and says what it refused."""
    endpoint = endpoints(server, tmp_path)[1]
    endpoint.environment["KAGGLE_API_TOKEN"] = TOKEN + end
    with KaggleClient(endpoint) as client, pytest.raises(PipelineError) as caught:
        client.limits(COMPETITION)
    assert f"Bearer ***{ascii(end)[1:-1]}" in str(caught.value)
    check(str(caught.value))


def test_a_dying_client_shows_no_secret(endpoint: Endpoint, tmp_path: Path) -> None:
    """Its last words reach the user, so they are cleaned."""
    package = tmp_path / "broken" / "kaggle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os, sys\n"
        "print('dying with', os.environ['KAGGLE_KEY'], file=sys.stderr, flush=True)\n"
        "os._exit(3)\n"
    )
    endpoint.environment["PYTHONPATH"] = str(package.parent)
    with KaggleClient(endpoint) as client, pytest.raises(PipelineError) as caught:
        client.limits(COMPETITION)
    assert "died: dying with ***" in str(caught.value)
    check(str(caught.value))


def check(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]
