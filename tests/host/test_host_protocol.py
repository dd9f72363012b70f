"""The host's answers to single requests, well-mannered and not."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.host.app import MAX_API_BYTES
from tests.host.pushing import KERNELS, save
from tests.host.running import API, Caller, Host, as_csv, path_of, send

COMPETITIONS = "competitions.CompetitionApiService"


@pytest.fixture
def blob(user: Caller) -> str:
    reply = user.call("DownloadDataFile", competitionName="digits", fileName="test.csv")
    assert reply.status == 302
    return path_of(reply.headers["location"])


def upload_path(user: Caller, size: int) -> tuple[str, str]:
    started = user.call(
        "StartSubmissionUpload", competitionName="digits", contentLength=size, fileName="s.csv"
    ).json
    return started["token"], path_of(started["createUrl"])


def test_ranges(host: Host, blob: str) -> None:
    whole = send(host, "GET", blob)
    assert whole.status == 200
    assert whole.headers["accept-ranges"] == "bytes"
    assert "last-modified" in whole.headers
    assert int(whole.headers["content-length"]) == len(whole.body)

    same = {"Range": "bytes=100-", "If-Range": whole.headers["etag"]}
    rest = send(host, "GET", blob, headers=same)
    assert (rest.status, rest.body) == (206, whole.body[100:])
    changed = send(host, "GET", blob, headers={**same, "If-Range": '"another"'})
    assert (changed.status, changed.body) == (200, whole.body)
    beyond = send(host, "GET", blob, headers={"Range": f"bytes={len(whole.body)}-"})
    assert beyond.status == 416


def test_download_links_are_unguessable(host: Host) -> None:
    reply = send(host, "GET", "/blobs/digits/digits.zip")
    assert (reply.status, reply.json["code"]) == (404, 404)


def test_absolute_targets(host: Host, blob: str) -> None:
    proxied = send(host, "GET", f"http://127.0.0.1:{host.address.port}{blob}")
    assert proxied.status == 200
    token = json.dumps({"token": host.address.key}).encode()
    target = "http://localhost/api/v1/security.OAuthService/IntrospectToken"
    reply = send(host, "POST", target, token, {"Content-Type": "application/json"})
    assert reply.json == {"active": True, "username": host.address.username}


def test_requests_for_other_servers_are_refused(host: Host) -> None:
    assert send(host, "GET", "http://www.kaggle.com/", headers={"Host": "kaggle.com"}).status == 400
    assert send(host, "CONNECT", "api.kaggle.com:443").status == 501


def test_calls_without_a_user_are_refused(host: Host) -> None:
    for headers in ({}, {"Authorization": "Basic !"}, {"Authorization": "Bearer wrong"}):
        reply = send(
            host,
            "POST",
            f"{API}/competitions.CompetitionApiService/ListCompetitions",
            b"{}",
            headers,
        )
        assert (reply.status, reply.json["code"]) == (401, 401)


def test_a_key_is_valid_for_its_own_user_only(host: Host, user: Caller) -> None:
    thief = Caller(host, host.address.username, user.key)
    assert thief.call("ListCompetitions").status == 401


def test_paging(user: Caller) -> None:
    first = user.call("ListDataFiles", competitionName="digits", pageSize=2, pageToken="").json
    token = first["nextPageToken"]
    second = user.call("ListDataFiles", competitionName="digits", pageSize=2, pageToken=token).json
    names = [file["name"] for file in first["files"] + second["files"]]
    assert names == ["sample_submission.csv", "test.csv", "train.csv"]
    assert "nextPageToken" not in second
    wrong = user.call("ListDataFiles", competitionName="digits", pageToken="x")
    assert (wrong.status, wrong.json["message"]) == (400, "page token 'x' is unknown")


def test_malformed_body(user: Caller) -> None:
    reply = user.call("GetSubmission", ref="not a number")
    assert reply.status == 400
    assert "ref" in reply.json["message"]


@pytest.mark.parametrize(
    ("service", "method", "body"),
    [
        (COMPETITIONS, "GetSubmission", {"ref": 10**30}),
        (COMPETITIONS, "GetSubmission", {"ref": str(-(10**30))}),
        (COMPETITIONS, "ListDataFiles", {"page": 2**62}),
        (COMPETITIONS, "ListDataFiles", {"pageToken": "9" * 5000}),
        ("blobs.BlobApiService", "StartBlobUpload", {"name": "x", "contentLength": -(10**30)}),
        (KERNELS, "GetKernel", {"kernelSlug": "some-kernel/" + "9" * 5000}),
        (KERNELS, "GetKernel", {"kernelSlug": "some-kernel", "versionLabel": f"v{10**30}"}),
    ],
)
def test_numbers_that_no_database_takes(
    user: Caller, service: str, method: str, body: dict[str, object]
) -> None:
    assert save(user, "some-kernel", "1", kernelExecutionType="QUICK_SAVE").status == 200
    named = {"competitionName": "digits", "userName": user.name}
    reply = user.call(method, service=service, **(named | body))
    assert reply.status in (400, 404)
    assert len(reply.json["message"]) < 200


def test_a_source_of_a_version_that_no_kernel_has(user: Caller) -> None:
    assert save(user, "some-kernel", "1", kernelExecutionType="QUICK_SAVE").status == 200
    source = f"{user.name}/some-kernel/{10**30}"
    assert save(user, "other-kernel", "1", kernelDataSources=[source]).status == 400


def test_bodies_are_limited(user: Caller, host: Host) -> None:
    reply = user.call("ListCompetitions", search="x" * MAX_API_BYTES)
    assert reply.status == 413
    announced = user.call(
        "StartSubmissionUpload", competitionName="digits", contentLength=10**10, fileName="s.csv"
    )
    assert announced.status == 413


def test_upload_links_work_once(user: Caller, host: Host) -> None:
    token, path = upload_path(user, 5)
    short = send(host, "PUT", path, b"id")
    assert (short.status, short.json["message"]) == (400, "received 2 bytes, expected 5")
    assert send(host, "PUT", path, b"id,la").status == 200
    assert send(host, "PUT", path, b"other").status == 404
    submission = {"competitionName": "digits", "blobFileTokens": token}
    assert user.call("CreateSubmission", **submission).status == 200
    second = user.call("CreateSubmission", **submission)
    assert (second.status, len(user.call("ListSubmissions", competitionName="digits").json)) == (
        400,
        1,
    )


def test_upload_links_expire(user: Caller, host: Host) -> None:
    _, path = upload_path(user, 5)
    with sqlite3.connect(host.state / "host.sqlite3") as database:
        database.execute("UPDATE uploads SET expires_at = '2020-01-01' WHERE state = 'open'")
    database.close()
    assert send(host, "PUT", path, b"id,la").status == 404


def test_upload_tokens_belong_to_their_user(user: Caller, host: Host) -> None:
    token, path = upload_path(user, 5)
    assert send(host, "PUT", path, b"id,la").status == 200
    thief = host.user("thief")
    stolen = thief.call("CreateSubmission", competitionName="digits", blobFileTokens=token)
    assert stolen.status == 400


def test_empty_file_arrives_chunked_and_is_told_off(user: Caller, host: Host) -> None:
    started = user.call("StartSubmissionUpload", competitionName="digits", fileName="s.csv").json
    path = path_of(started["createUrl"])
    chunked = {"Transfer-Encoding": "chunked"}
    assert send(host, "PUT", path, iter([]), chunked, encode_chunked=True).status == 200
    body = {"competitionName": "digits", "blobFileTokens": started["token"]}
    submission = user.scored(user.call("CreateSubmission", **body).json["ref"])
    assert submission["status"] == "ERROR"
    assert "not a CSV" in submission["errorDescription"]


def test_concurrent_submissions_keep_to_the_limit(host: Host, user: Caller) -> None:
    content = as_csv(host.solution()["label"])
    tokens = []
    for _ in range(8):
        token, path = upload_path(user, len(content))
        assert send(host, "PUT", path, content).status == 200
        tokens.append(token)
    host.services.contests.set_daily_limit("digits", 3)

    def submit(token: str) -> int:
        body = {"competitionName": "digits", "blobFileTokens": token}
        return user.call("CreateSubmission", **body).status

    try:
        with ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(submit, tokens))
    finally:
        host.services.contests.set_daily_limit("digits", 20)
    assert statuses == {200: 3, 400: 5}


@pytest.fixture
def private_scores_hidden(host: Host) -> Iterator[None]:
    host.services.contests.set_show_private("digits", False)
    yield
    host.services.contests.set_show_private("digits", True)


@pytest.mark.usefixtures("private_scores_hidden")
def test_private_scores_can_be_kept(host: Host, user: Caller) -> None:
    submission = user.submit(as_csv(host.solution()["label"]))
    assert submission["publicScore"] == "1.00000"
    assert "privateScore" not in submission


def test_public_and_private_scores_differ(host: Host, user: Caller) -> None:
    solution = host.solution()
    labels = solution["label"].mask(~solution["public"], "0")
    private_zeros = (solution["label"][~solution["public"]] == "0").mean()
    submission = user.submit(as_csv(labels))
    assert submission["publicScore"] == "1.00000"
    assert submission["privateScore"] == f"{private_zeros:.5f}"


def test_the_list_says_where_the_caller_stands(host: Host, user: Caller) -> None:
    def standing(caller: Caller) -> tuple[bool, bool]:
        [digits] = caller.call("ListCompetitions", search="digits").json["competitions"]
        return digits["userHasEntered"], 1 <= digits["userRank"] <= digits["teamCount"]

    account = host.services.accounts.named(user.name)
    assert account is not None
    assert standing(user) == (True, False)
    user.submit(as_csv(host.solution()["label"]))
    assert standing(user) == (True, True)
    host.services.accounts.set_rules(account, "digits", accepted=False)
    assert standing(user) == (False, True)


def test_malformed_submission_says_why_and_has_no_score(host: Host, user: Caller) -> None:
    submission = user.submit(as_csv(host.solution()["label"].iloc[1:]))
    first = host.solution().index[0]
    assert submission["status"] == "ERROR"
    assert submission["errorDescription"] == f"1 ids are missing, first id '{first}'"
    assert "publicScore" not in submission
