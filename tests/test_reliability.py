"""The page of what the soak tests survived."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.reliability import HEAD, PAGE, read_rows, render

TESTS = """
import pytest

@pytest.mark.parametrize("seed", range(4))
def test_every_kill_is_survived(seed):
    assert seed != 3

def test_many_in_one(record_property):
    record_property("cases", 1200)
    record_property("accepted", 1000)
    record_property("p99 seconds", 0.0125)

@pytest.mark.skip
def test_what_this_machine_cannot():
    pass
"""
ROW = re.compile(r"\| [^|]+ \(`tests/[\w/]+\.py`\) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| .* \|")
MADE = re.compile(r"\d{4}-\d\d-\d\d, commit \w+(, modified)?; .+, \d+ cores\.")


def test_outcomes_are_counted_by_test_function(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    arguments = ["-o", "junit_family=xunit1", "--junit-xml=report.xml", "test_some.py"]
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    rows = [str(row) for row in read_rows([tmp_path / "report.xml"])]

    assert rows == [
        "| every kill is survived (`test_some.py`) | 4 | 3 | 1 | 0 |  |",
        "| many in one (`test_some.py`) | 1,200 | 1,200 | 0 | 0 | accepted: 1,000; "
        "p99 seconds: 0.0125 |",
        "| what this machine cannot (`test_some.py`) | 0 | 0 | 0 | 0 | skipped: 1 |",
    ]


def test_the_page_has_the_form_that_is_written() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = page.splitlines()
    before = HEAD.splitlines().index("{made}")
    made, rows = lines[before], lines[len(HEAD.splitlines()) :]

    assert page == render([], made).rstrip("\n") + "\n" + "\n".join(rows) + "\n"
    assert MADE.fullmatch(made)
    for row in rows:
        counts = ROW.fullmatch(row)
        assert counts, row
        cases, survived, lost = (int(count.replace(",", "")) for count in counts.groups())
        assert cases == survived + lost
