"""The real kaggle client against a server that misbehaves."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from pipeline.client.client import KaggleClient, Limits, RemoteFile
from pipeline.client.endpoint import Endpoint, kaggle_endpoint, local_endpoint
from pipeline.client.failures import Failure, error_for
from pipeline.client.retries import ATTEMPTS
from pipeline.errors import (
    AccessError,
    ConfigError,
    CredentialsError,
    DataError,
    HostError,
    LimitError,
    PipelineError,
    StorageError,
)
from tests.client.fault_server import (
    COMPETITION,
    KEY,
    TOKEN,
    USERNAME,
    Fault,
    FaultServer,
    Handler,
    cut_body,
    hang,
    hang_up,
    refuse,
    send_page,
    then,
)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_text("id,label\n1,7\n")
    return path


def test_files_of_every_page_are_listed(client: KaggleClient, server: FaultServer) -> None:
    assert client.files(COMPETITION) == [
        RemoteFile("train.csv", 13),
        RemoteFile("images/1.txt", 594),
    ]
    assert server.book.count("ListDataFiles") == 2


def test_download_saves_the_archive(client: KaggleClient, tmp_path: Path) -> None:
    seen: list[int] = []
    archive = client.download(COMPETITION, tmp_path / "zip", seen.append)
    assert zipfile.ZipFile(archive).testzip() is None


def test_file_that_vanishes_while_progress_is_read(
    client: KaggleClient, server: FaultServer, tmp_path: Path
) -> None:
    """As the client's own note of a part does."""

    def send_late(handler: Handler) -> None:
        time.sleep(1)
        handler.operate()

    server.book.faults["GET"] = [send_late]
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip/listed").symlink_to("gone")
    seen: list[int] = []
    client.download(COMPETITION, tmp_path / "zip", seen.append)
    assert 0 in seen


def test_submission_is_uploaded_and_scored(
    client: KaggleClient, server: FaultServer, csv: Path
) -> None:
    assert client.limits(COMPETITION) == Limits(today=3, total=3, allowed_now=17)
    ref = client.submit(COMPETITION, csv, "first")
    scored = client.wait_for_score(ref, patience=5)
    assert (scored.status, scored.public_score, scored.private_score) == ("COMPLETE", 0.91, 0.89)
    assert scored.submitted_at == "2026-11-22T12:00:00Z"
    assert server.book.uploads["1"] == csv.read_bytes()
    assert [found.ref for found in client.submissions(COMPETITION)] == [ref]


def test_score_that_never_comes_is_pending(
    client: KaggleClient, server: FaultServer, csv: Path
) -> None:
    server.book.status = "PENDING"
    ref = client.submit(COMPETITION, csv, "slow")
    assert client.wait_for_score(ref, patience=0.6).status == "PENDING"


def test_hidden_private_score_is_none(client: KaggleClient, server: FaultServer) -> None:
    server.book.submissions.append({"ref": 7, "status": "COMPLETE", "publicScore": "0.5"})
    found = client.submission(7)
    assert (found.public_score, found.private_score) == (0.5, None)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (refuse(401), CredentialsError, "refused its own user's key"),
        (refuse(403, "rules"), AccessError, f"rules {USERNAME} digits accept` and rerun"),
        (refuse(404), ConfigError, "no competition 'digits'"),
        (
            refuse(400, "odd request"),
            HostError,
            "HTTP 400: odd request); mend what the answer names",
        ),
        (refuse(500, "broken"), HostError, "HTTP 500: broken"),
        (lambda handler: handler.send_json({"message": ["busy"]}, 500), HostError, "['busy']"),
        (send_page(502), HostError, "HTTP 502: Bad Gateway"),
        (refuse(429), HostError, "too many requests: wait some minutes"),
        (hang_up, HostError, "listing the files failed (connection"),
        (lambda handler: handler.send_bytes(b"", 200), HostError, "protocol: JSONDecodeError"),
        (lambda handler: handler.send_json({"files": [None]}), HostError, "protocol"),
    ],
)
@pytest.mark.usefixtures("no_pauses")
def test_refusals_become_errors(
    client: KaggleClient,
    server: FaultServer,
    fault: Fault,
    error: type[PipelineError],
    words: str,
) -> None:
    server.book.faults["ListDataFiles"] = [fault] * ATTEMPTS
    with pytest.raises(error) as caught:
        client.files(COMPETITION)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [refuse(429), refuse(503), send_page(502), hang_up])
@pytest.mark.usefixtures("no_pauses")
def test_passing_faults_are_retried(
    client: KaggleClient, server: FaultServer, fault: Fault
) -> None:
    server.book.faults["GetSubmissionLimits"] = [fault] * (ATTEMPTS - 1)
    assert client.limits(COMPETITION).today == 3
    assert server.book.count("GetSubmissionLimits") == ATTEMPTS


def test_retry_after_is_honoured(client: KaggleClient, server: FaultServer) -> None:
    server.book.faults["GetSubmissionLimits"] = [refuse(429, Retry_After="2")]
    start = time.monotonic()
    client.limits(COMPETITION)
    assert time.monotonic() - start >= 2


def test_a_retry_after_that_names_no_zone_is_in_utc(
    client: KaggleClient, server: FaultServer
) -> None:
    server.book.faults["GetSubmissionLimits"] = [
        refuse(503, Retry_After="Thu, 01 Jan 2026 00:00:00 -0000")
    ]
    client.limits(COMPETITION)
    assert server.book.count("GetSubmissionLimits") == 2


def test_too_long_a_retry_after_is_left_to_the_user(
    client: KaggleClient, server: FaultServer
) -> None:
    server.book.faults["GetSubmissionLimits"] = [
        refuse(429, "slow down", Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")
    ]
    with pytest.raises(HostError, match="slow down"):
        client.limits(COMPETITION)
    assert server.book.count("GetSubmissionLimits") == 1


def test_hung_call_is_killed_and_the_next_one_works(
    endpoint: Endpoint, server: FaultServer
) -> None:
    server.book.faults["GetSubmissionLimits"] = [hang]
    with KaggleClient(endpoint, timeout=3) as client:
        with pytest.raises(HostError, match=r"timeout: no answer for 3 s"):
            client.limits(COMPETITION)
        assert client.limits(COMPETITION).today == 3


@pytest.mark.usefixtures("no_pauses")
def test_host_that_is_gone(tmp_path: Path) -> None:
    endpoint = local_endpoint(9, USERNAME, KEY, "gone", scratch=tmp_path)
    with (
        KaggleClient(endpoint) as client,
        pytest.raises(HostError, match="Connection refused"),
    ):
        client.files(COMPETITION)


def as_kaggle(endpoint: Endpoint, **credentials: str) -> Endpoint:
    """The same server, taken for kaggle.com, with other credentials."""
    environment = {
        name: value
        for name, value in endpoint.environment.items()
        if name not in {"KAGGLE_USERNAME", "KAGGLE_KEY"}
    }
    return Endpoint(
        name="kaggle", instance="kaggle.com", environment={**environment, **credentials}
    )


def test_token_is_used(endpoint: Endpoint) -> None:
    with KaggleClient(as_kaggle(endpoint, KAGGLE_API_TOKEN=TOKEN)) as client:
        assert client.limits(COMPETITION).today == 3


@pytest.mark.parametrize("credentials", [{}, {"KAGGLE_API_TOKEN": TOKEN}])
def test_missing_and_expired_credentials(
    endpoint: Endpoint, server: FaultServer, credentials: dict[str, str]
) -> None:
    server.book.token_is_active = False
    with (
        KaggleClient(as_kaggle(endpoint, **credentials)) as client,
        pytest.raises(CredentialsError, match=r"make a new token at https://www.kaggle.com/set"),
    ):
        client.files(COMPETITION)


@pytest.mark.parametrize(
    ("fault", "error"), [(refuse(401), CredentialsError), (refuse(503), HostError)]
)
@pytest.mark.usefixtures("no_pauses")
def test_sign_in_that_fails(
    endpoint: Endpoint, server: FaultServer, fault: Fault, error: type[PipelineError]
) -> None:
    server.book.faults["IntrospectToken"] = [fault] * 20
    with (
        KaggleClient(as_kaggle(endpoint, KAGGLE_API_TOKEN=TOKEN)) as client,
        pytest.raises(error),
    ):
        client.files(COMPETITION)


@pytest.mark.parametrize(
    "fault", [then(refuse(500)), then(send_page(502)), then(hang_up), then(hang)]
)
@pytest.mark.usefixtures("no_pauses")
def test_submission_whose_answer_is_lost_is_found(
    endpoint: Endpoint, server: FaultServer, csv: Path, fault: Fault
) -> None:
    server.book.faults["CreateSubmission"] = [fault]
    with KaggleClient(endpoint, timeout=3) as client:
        assert client.submit(COMPETITION, csv, "once") == 1001
    assert server.book.count("CreateSubmission") == 1


@pytest.mark.parametrize("fault", [refuse(500), hang_up])
@pytest.mark.usefixtures("no_pauses")
def test_submission_of_unknown_outcome_is_not_sent_again(
    client: KaggleClient, server: FaultServer, csv: Path, fault: Fault
) -> None:
    server.book.faults["CreateSubmission"] = [fault]
    with pytest.raises(HostError, match="not in the host's list; rerun"):
        client.submit(COMPETITION, csv, "once")
    assert server.book.count("CreateSubmission") == 1


@pytest.mark.usefixtures("no_pauses")
def test_rate_limited_submission_is_sent_again(
    client: KaggleClient, server: FaultServer, csv: Path
) -> None:
    server.book.faults["CreateSubmission"] = [refuse(429)]
    assert client.submit(COMPETITION, csv, "again") == 1001
    assert len(server.book.submissions) == 1


@pytest.mark.parametrize("status", [400, 403, 429])
@pytest.mark.usefixtures("no_pauses")
def test_daily_limit(client: KaggleClient, server: FaultServer, csv: Path, status: int) -> None:
    server.book.allowed_a_day = 3
    server.book.faults["CreateSubmission"] = [refuse(status, "allowance used")]
    with pytest.raises(LimitError, match=r"no submission left today, 3 made; HTTP \d+: allowance"):
        client.submit(COMPETITION, csv, "too many")
    assert not server.book.submissions


def test_rules_not_accepted(client: KaggleClient, server: FaultServer, csv: Path) -> None:
    server.book.faults["StartSubmissionUpload"] = [refuse(403, "accept the rules")]
    with pytest.raises(AccessError, match="accept the rules with `"):
        client.submit(COMPETITION, csv, "eager")


def test_rules_not_accepted_on_kaggle() -> None:
    failure = Failure("http", "rules", status=403)
    error = error_for(failure, kaggle_endpoint(), "the upload", "digits")
    assert isinstance(error, AccessError)
    assert "accept the rules at https://www.kaggle.com/competitions/digits/rules" in str(error)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(today=2, total=2, allowed_now=3), "3 of 5 submissions left today"),
        (Limits(today=2, total=9, allowed_now=0), "no submission left today, 2 made"),
        (Limits(today=0, total=9, allowed_now=0), "no submission left today, 0 made"),
        (Limits(today=0, total=0, allowed_now=0), "the daily limit is told with the first"),
    ],
)
def test_limits_in_words(limits: Limits, words: str) -> None:
    assert str(limits).startswith(words)


def test_refused_file_is_no_submission(
    client: KaggleClient, server: FaultServer, csv: Path
) -> None:
    """The client itself reports success here."""
    server.book.faults["PUT"] = [refuse(500)]
    with pytest.raises(HostError, match="the file was not taken"):
        client.submit(COMPETITION, csv, "lost")
    assert not server.book.submissions


def test_unknown_submission(client: KaggleClient) -> None:
    with pytest.raises(HostError, match="has no submission 5"):
        client.submission(5)


def test_cut_download_is_continued(
    client: KaggleClient, server: FaultServer, tmp_path: Path
) -> None:
    server.book.faults["GET"] = [cut_body]
    archive = client.download(COMPETITION, tmp_path / "zip")
    assert archive.read_bytes() == server.book.zipped()
    assert server.book.count("GET") == 2


def test_download_without_redirect_is_refused(
    client: KaggleClient, server: FaultServer, tmp_path: Path
) -> None:
    """The client names the file after the last URL, whatever that is."""
    server.book.faults["DownloadDataFiles"] = [lambda handler: handler.send_bytes(b"bytes")]
    with pytest.raises(DataError, match=r"sent no digits\.zip"):
        client.download(COMPETITION, tmp_path / "zip")


def test_folder_that_cannot_be_written(client: KaggleClient, tmp_path: Path) -> None:
    occupied = tmp_path / "zip"
    occupied.mkdir()
    (occupied / f"{COMPETITION}.zip").mkdir()
    with pytest.raises(StorageError, match="the download failed"):
        client.download(COMPETITION, occupied)
