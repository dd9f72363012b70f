"""The ledger keeps whole lines, whatever happens while it is written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.client.ledger import Ledger, Upload, find_upload
from pipeline.errors import DataError

UPLOAD = Upload(
    competition="digits",
    run="run-1",
    file_sha256="a" * 64,
    predictions_sha256="b" * 64,
    cv_mean=0.97,
    cv_std=0.01,
    public_score=None,
    private_score=None,
    host="local",
    instance="i1",
    ref=1,
    commit=None,
    submitted_at="2026-11-23T10:00:00Z",
    status="PENDING",
)
SCORED = replace(UPLOAD, status="COMPLETE", public_score=0.9, private_score=0.8)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "submissions" / "ledger.jsonl")


def test_no_ledger_yet(ledger: Ledger) -> None:
    assert ledger.uploads() == []


def test_each_line_is_one_object_with_every_field(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(SCORED)
    (line,) = (tmp_path / "submissions" / "ledger.jsonl").read_text().splitlines()
    assert {"competition", "run", "file_sha256", "predictions_sha256", "cv_mean", "cv_std"} <= set(
        json.loads(line)
    )
    assert json.loads(line)["public_score"] == 0.9
    assert json.loads(line)["commit"] is None


def test_later_score_completes_the_upload(ledger: Ledger) -> None:
    other = replace(UPLOAD, ref=2)
    for upload in (UPLOAD, other, SCORED):
        ledger.append(upload)
    assert ledger.uploads() == [SCORED, other]


def test_same_number_on_another_host_is_another_upload(ledger: Ledger) -> None:
    elsewhere = replace(UPLOAD, instance="kaggle.com", host="kaggle")
    ledger.append(UPLOAD)
    ledger.append(elsewhere)
    assert ledger.uploads() == [UPLOAD, elsewhere]


@pytest.mark.parametrize("kept", [1, 12, -1])
def test_torn_last_line_is_mended(ledger: Ledger, tmp_path: Path, kept: int) -> None:
    ledger.append(UPLOAD)
    path = tmp_path / "submissions" / "ledger.jsonl"
    torn = json.dumps({"ref": 2, "run": "torn"})[:kept]
    path.write_text(path.read_text() + torn)
    assert ledger.uploads() == [UPLOAD]
    ledger.append(SCORED)
    assert ledger.uploads() == [SCORED]
    assert "torn" not in path.read_text()


def test_last_line_without_its_newline_counts(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(UPLOAD)
    path = tmp_path / "submissions" / "ledger.jsonl"
    path.write_text(path.read_text().rstrip("\n"))
    ledger.append(replace(UPLOAD, ref=2))
    assert [upload.ref for upload in ledger.uploads()] == [1, 2]


@pytest.mark.parametrize("damaged", ["{", "7", '{"run": "only"}'])
def test_damaged_line_is_named(ledger: Ledger, tmp_path: Path, damaged: str) -> None:
    ledger.append(UPLOAD)
    path = tmp_path / "submissions" / "ledger.jsonl"
    path.write_text(f"{path.read_text()}{damaged}\n{path.read_text()}")
    with pytest.raises(DataError, match="line 2 is damaged"):
        ledger.uploads()


def test_same_bytes_come_before_same_predictions() -> None:
    same_predictions = replace(UPLOAD, ref=2, file_sha256="c" * 64)
    uploads = [UPLOAD, same_predictions, replace(UPLOAD, instance="other")]
    hashes = {"file_sha256": "a" * 64, "predictions_sha256": "b" * 64}
    assert find_upload(uploads, instance="i1", **hashes) == UPLOAD
    assert find_upload(uploads[1:], instance="i1", **hashes) == same_predictions
    assert find_upload(uploads, instance="kaggle.com", **hashes) is None
    others = {"file_sha256": "d" * 64, "predictions_sha256": "e" * 64}
    assert find_upload(uploads, instance="i1", **others) is None


def test_of_several_uploads_of_the_same_bytes_the_last_counts() -> None:
    """As FORCE=1 makes them: where the first could not be scored, the second may have been."""
    again = replace(SCORED, ref=2)
    hashes = {"file_sha256": "a" * 64, "predictions_sha256": "b" * 64}
    assert find_upload([UPLOAD, again], instance="i1", **hashes) == again


def test_what_a_later_version_adds_to_a_line_is_left_out(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(UPLOAD)
    path = tmp_path / "submissions" / "ledger.jsonl"
    path.write_text(path.read_text().replace("{", '{"medal": "gold", ', 1))
    assert ledger.uploads() == [UPLOAD]


_APPEND_FOR_EVER = """
import sys
from dataclasses import replace
from pathlib import Path
from pipeline.client.ledger import Ledger
from tests.client.test_ledger import UPLOAD
for ref in range(1, 100_000):
    Ledger(Path(sys.argv[1])).append(replace(UPLOAD, ref=ref))
"""


def test_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", _APPEND_FOR_EVER, str(path)])
    while not path.exists() or len(path.read_bytes()) < 20_000:
        assert writer.poll() is None
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert path.read_bytes().endswith(b"}\n")
    refs = [upload.ref for upload in Ledger(path).uploads()]
    assert refs == list(range(1, len(refs) + 1))
