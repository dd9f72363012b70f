"""`python -m tests.reliability REPORT ...`: pytest's reports of soak tests as tests/RELIABILITY.md.

A report is what `pytest --junit-xml` writes. A test may record `cases`, where it tried more than
one, and other figures: whole numbers are added up over its parameters, of others the largest is
shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from pipeline.stages.provenance import provenance

PAGE = Path(__file__).with_name("RELIABILITY.md")
HEAD = """\
# Reliability

What takes too long for `make test` is tried by `make soak`, which writes this page. A case is lost
where its test fails; a test of many cases stops at the first, and all of them count as lost.

{made}

| what was tried | cases | survived | lost | seconds | figures |
| --- | ---: | ---: | ---: | ---: | --- |"""


@dataclass
class Row:
    """One test function, over all its parameters."""

    title: str
    file: str
    cases: int = 0
    survived: int = 0
    skipped: int = 0
    seconds: float = 0.0
    figures: dict[str, int | float] = field(default_factory=dict)

    def add(self, case: ElementTree.Element) -> None:
        """Count one outcome of the test."""
        if case.find("skipped") is not None:
            self.skipped += 1
            return
        recorded = {
            p.attrib["name"]: _number(p.attrib["value"]) for p in case.iterfind(".//property")
        }
        cases = int(recorded.pop("cases", 1))
        self.cases += cases
        if case.find("failure") is None and case.find("error") is None:
            self.survived += cases
        self.seconds += float(case.attrib["time"])
        for name, value in recorded.items():
            known = self.figures.get(name, 0)
            self.figures[name] = known + value if isinstance(value, int) else max(known, value)

    def __str__(self) -> str:
        figures = [f"{name}: {_spoken(value)}" for name, value in self.figures.items()]
        if self.skipped:
            figures.append(f"skipped: {self.skipped}")
        lost = self.cases - self.survived
        counts = f"{self.cases:,} | {self.survived:,} | {lost:,} | {self.seconds:,.0f}"
        return f"| {self.title} (`{self.file}`) | {counts} | {'; '.join(figures)} |"


def read_rows(reports: Iterable[Path]) -> list[Row]:
    """A row per test function, in the order in which they ran."""
    rows: dict[tuple[str, str], Row] = {}
    for case in _cases(reports):
        file = case.attrib["classname"].replace(".", "/") + ".py"
        title = case.attrib["name"].partition("[")[0].removeprefix("test_").replace("_", " ")
        rows.setdefault((file, title), Row(title, file)).add(case)
    return list(rows.values())


def render(rows: Iterable[Row], made: str) -> str:
    """The page; `made` says when, from what and on what machine the tests ran."""
    return "\n".join([HEAD.format(made=made), *map(str, rows)]) + "\n"


def how_it_was_made(reports: Iterable[Path]) -> str:
    """The day of the first test, the commit and the machine, in one line."""
    (suite, *_) = (s for path in reports for s in ElementTree.parse(path).iter("testsuite"))
    made = provenance()
    commit = (made["commit"] or "none")[:12] + (", modified" if made["modified"] else "")
    machine = f"{made['machine']['processor']}, {made['machine']['cores']} cores"
    return f"{suite.attrib['timestamp'][:10]}, commit {commit}; {machine}."


def _cases(reports: Iterable[Path]) -> Iterator[ElementTree.Element]:
    for report in reports:
        # A test that was interrupted has no name.
        yield from ElementTree.parse(report).iterfind(".//testcase[@name]")


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)


def _spoken(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


if __name__ == "__main__":
    PATHS = [Path(argument) for argument in sys.argv[1:]]
    PAGE.write_text(render(read_rows(PATHS), how_it_was_made(PATHS)), encoding="utf-8")
    print(f"wrote {PAGE}")
