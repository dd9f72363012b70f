"""Many users at once, over HTTP, and a host that is killed meanwhile: nothing is lost or mixed."""

from __future__ import annotations

import http.client
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from pipeline.host.lifecycle import local_host
from tests.host.running import Caller, Host, as_csv, path_of, send
from tests.host.test_host_lifecycle import foreground

T = TypeVar("T")
CROWDS = [
    pytest.param(3, 4, id="12 submissions"),
    pytest.param(20, 10, id="200 submissions", marks=pytest.mark.soak),
]
KILLS = [
    pytest.param(3, 0),
    *[pytest.param(20, seed, marks=pytest.mark.soak) for seed in range(1, 11)],
]


def graded(host: Host, wrong: int) -> tuple[bytes, str]:
    """A submission with so many wrong public labels, and the public score that it must get."""
    solution = host.solution()
    labels = solution["label"].copy()
    public = solution.index[solution["public"]]
    labels[public[:wrong]] = [str(9 - int(label)) for label in labels[public[:wrong]]]
    return as_csv(labels), f"{1 - wrong / len(public):.5f}"


def download(user: Caller) -> bytes:
    reply = user.call("DownloadDataFile", competitionName="digits", fileName="test.csv")
    return send(user.host, "GET", path_of(reply.headers["location"])).body


def timed(seconds: list[float], action: Callable[[], T]) -> T:
    begin = time.monotonic()
    result = action()
    seconds.append(time.monotonic() - begin)
    return result


@pytest.mark.parametrize(("users", "each"), CROWDS)
def test_users_at_once_each_get_their_own_scores_and_files(
    host: Host, users: int, each: int, record_property: Callable[[str, object], None]
) -> None:
    submissions = [graded(host, wrong) for wrong in range(each)]
    crowd = [host.user(f"one-of-{users}-{number}") for number in range(users)]
    whole = download(crowd[0])
    submitting: list[float] = []
    downloading: list[float] = []

    def work(user: Caller) -> list[int]:
        refs = []
        for content, _ in submissions:
            refs.append(timed(submitting, lambda content=content: user.hand_in(content)))
            assert timed(downloading, lambda: download(user)) == whole
        return refs

    with ThreadPoolExecutor(users) as pool:
        refs = list(pool.map(work, crowd))

    record_property("cases", 2 * users * each)
    record_property("p99 seconds of a submission", float(np.quantile(submitting, 0.99)))
    record_property("p99 seconds of a download", float(np.quantile(downloading, 0.99)))
    assert len({ref for own in refs for ref in own}) == users * each
    for user, own in zip(crowd, refs, strict=True):
        scores = [user.scored(ref)["publicScore"] for ref in own]
        assert scores == [score for _, score in submissions]


@pytest.mark.parametrize(("users", "seed"), KILLS)
def test_a_host_killed_under_load_has_what_it_acknowledged(
    tmp_path: Path, users: int, seed: int, record_property: Callable[[str, object], None]
) -> None:
    acknowledged: dict[int, tuple[Caller, str]] = {}
    enough = random.Random(seed).randrange(users, 4 * users)
    with foreground(tmp_path) as (process, _), local_host("digits", state=tmp_path) as address:
        host = Host(address, tmp_path)
        submissions = [graded(host, wrong) for wrong in range(10)]
        crowd = [host.user(f"user-{number}") for number in range(users)]

        def work(user: Caller) -> None:
            with suppress(OSError, http.client.HTTPException):  # what a killed host's callers get
                for content, score in submissions:
                    acknowledged[user.hand_in(content)] = (user, score)

        with ThreadPoolExecutor(users) as pool:
            working = [pool.submit(work, user) for user in crowd]
            while len(acknowledged) < enough:
                assert not all(future.done() for future in working)
                time.sleep(0.002)
            process.kill()
        for future in working:
            future.result()

    with sqlite3.connect(tmp_path / "host.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with local_host("digits", state=tmp_path) as address:
        again = Host(address, tmp_path)
        record_property("cases", len(acknowledged))
        for ref, (user, score) in acknowledged.items():
            assert Caller(again, user.name, user.key).scored(ref)["publicScore"] == score
