"""The official `kaggle` command against a live host."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.host.running import Caller, Host, as_csv, path_of, send


@pytest.fixture
def perfect(host: Host, tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_bytes(as_csv(host.solution()["label"]))
    return path


def test_list_and_files(user: Caller) -> None:
    listed = user.kaggle("competitions", "list", "-s", "digits")
    assert listed.returncode == 0
    assert "/competitions/digits" in listed.stdout
    files = user.kaggle("competitions", "files", "digits", "-v")
    assert files.returncode == 0
    names = pd.read_csv(io.StringIO(files.stdout))["name"].tolist()
    assert names == ["sample_submission.csv", "test.csv", "train.csv"]


def test_download_everything_and_one_file(user: Caller, host: Host, tmp_path: Path) -> None:
    download = user.kaggle("competitions", "download", "digits", "-q", "-p", str(tmp_path))
    assert download.returncode == 0
    archive = tmp_path / "digits.zip"
    assert archive.read_bytes() == (host.state / "competitions/digits/digits.zip").read_bytes()

    again = user.kaggle("competitions", "download", "digits", "-p", str(tmp_path))
    assert "Skipping" in again.stdout

    one = user.kaggle("competitions", "download", "digits", "-f", "test.csv", "-p", str(tmp_path))
    assert one.returncode == 0
    with zipfile.ZipFile(archive) as members:
        assert (tmp_path / "test.csv").read_bytes() == members.read("test.csv")


def test_interrupted_download_is_resumed(user: Caller, host: Host, tmp_path: Path) -> None:
    whole = (host.state / "competitions/digits/digits.zip").read_bytes()
    redirect = user.call("DownloadDataFiles", competitionName="digits")
    etag = send(host, "GET", path_of(redirect.headers["location"])).headers["etag"]
    archive = tmp_path / "digits.zip"
    archive.write_bytes(whole[: len(whole) // 2])
    marker = tmp_path / "digits.zip.kaggle-partial"
    marker.write_text(json.dumps({"validator": etag, "size": len(whole)}))

    resumed = user.kaggle("competitions", "download", "digits", "-p", str(tmp_path))

    assert "Resuming from" in resumed.stdout
    assert archive.read_bytes() == whole


def test_submit_and_see_the_score(user: Caller, perfect: Path, tmp_path: Path) -> None:
    submitted = user.kaggle("competitions", "submit", "digits", "-f", str(perfect), "-m", "mine")
    assert submitted.returncode == 0
    assert "19 submissions remaining today." in submitted.stdout
    assert "Successfully submitted to digits" in submitted.stdout

    listed = user.kaggle("competitions", "submissions", "digits", "-v")
    row = pd.read_csv(io.StringIO(listed.stdout), dtype=str).iloc[0]
    assert row[["fileName", "description", "status", "publicScore", "privateScore"]].tolist() == [
        "submission.csv",
        "mine",
        "SubmissionStatus.COMPLETE",
        "1.00000",
        "1.00000",
    ]

    limits = user.kaggle("competitions", "submission-limits", "digits")
    assert "Submissions today: 1" in limits.stdout

    shown = user.kaggle("competitions", "leaderboard", "digits", "--show", "--page-size", "1000")
    assert user.name in shown.stdout
    download = user.kaggle("competitions", "leaderboard", "digits", "-d", "-p", str(tmp_path))
    assert download.returncode == 0
    with zipfile.ZipFile(tmp_path / "digits.zip") as members:
        table = pd.read_csv(members.open("digits-publicleaderboard.csv"), dtype=str)
    assert table.set_index("TeamName").loc[user.name, "Score"] == "1.00000"


def test_users_see_only_their_own_submissions(host: Host, user: Caller, perfect: Path) -> None:
    ref = user.submit(perfect.read_bytes())["ref"]
    other = host.user("stranger")
    listed = other.kaggle("competitions", "submissions", "digits", "-v")
    assert "No submissions found" in listed.stdout
    refused = other.call("GetSubmission", ref=ref)
    assert (refused.status, refused.json["message"]) == (404, f"you have no submission {ref}")


@pytest.fixture
def limit_of_one(host: Host) -> Iterator[None]:
    host.services.contests.set_daily_limit("digits", 1)
    yield
    host.services.contests.set_daily_limit("digits", 20)


@pytest.mark.usefixtures("limit_of_one")
def test_daily_limit(user: Caller, perfect: Path) -> None:
    assert user.submit(b"not,a\nsubmission,\n")["status"] == "ERROR"
    arguments = ("competitions", "submit", "digits", "-f", str(perfect), "-m", "mine")
    assert user.kaggle(*arguments).returncode == 0, "a failed submission does not count"
    second = user.kaggle(*arguments)
    assert second.returncode == 1
    assert "the daily limit of 1 submissions to 'digits' is reached" in second.stderr
    assert user.call("GetSubmissionLimits", competitionName="digits").json == {
        "numToday": 1,
        "numTotal": 2,
        "numAllowedNow": 0,
        "limitedByTotal": False,
    }


def test_wrong_key(user: Caller) -> None:
    refused = user.kaggle("competitions", "files", "digits", KAGGLE_KEY="0" * 32)
    assert refused.returncode == 1
    assert user.key not in refused.stdout + refused.stderr


def test_access_token(user: Caller) -> None:
    accepted = user.kaggle("competitions", "files", "digits", KAGGLE_API_TOKEN=user.key)
    assert "train.csv" in accepted.stdout
    refused = user.kaggle("competitions", "files", "digits", KAGGLE_API_TOKEN="wrong")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_rules_not_accepted(host: Host, user: Caller, perfect: Path, tmp_path: Path) -> None:
    owner = host.services.accounts.named(user.name)
    assert owner is not None
    host.services.accounts.set_rules(owner, "digits", accepted=False)
    for arguments in (
        ("download", "digits", "-p", str(tmp_path)),
        ("submit", "digits", "-f", str(perfect), "-m", "mine"),
    ):
        refused = user.kaggle("competitions", *arguments)
        assert refused.returncode == 1
        assert f"{user.name} must accept the rules of 'digits' first" in refused.stderr
    assert user.call("DownloadDataFiles", competitionName="digits").status == 403


def test_unknown_names(user: Caller) -> None:
    unknown = user.kaggle("competitions", "files", "dogs")
    assert (unknown.returncode, unknown.stderr.splitlines()[0]) == (
        1,
        "competition 'dogs' not found on this host",
    )
    assert user.kaggle("competitions", "download", "digits", "-f", "no.csv").returncode == 1
    missing = user.kaggle("datasets", "list")
    assert missing.returncode == 1
    assert "does not implement datasets.DatasetApiService/ListDatasets" in missing.stderr


def test_environment_that_points_at_production_stays_here(user: Caller) -> None:
    slip = user.kaggle("competitions", "list", KAGGLE_API_ENVIRONMENT="LOCALHSOT")
    assert slip.returncode == 1
    assert "Tunnel connection failed: 501" in slip.stderr
