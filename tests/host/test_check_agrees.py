"""The check before an upload and the host's scorer agree on what is a submission.

What passes the check is scored. What the check refuses is refused by the host too, but for the
rules that the check has on top: the sample's order, no constant column, strictly written CSV.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.competition import Competition, SubmissionSpec
from pipeline.data.submission import SubmissionForm, check_submission
from pipeline.errors import SubmissionError
from pipeline.host.scoring import score_submission
from pipeline.metrics import metric_named

CLASSES = ("cat", "dog")
IDS = ["1", "02", "x", "é"]
PETS = Competition(slug="pets", classes=CLASSES)
SOLUTION = pd.DataFrame(
    {"label": ["cat", "dog", "cat", "dog"], "public": [True, True, False, False]},
    index=pd.Index(IDS, name="id"),
)
SEVERAL = {
    "micro_f1": ["cat", "", "cat dog", "dog"],
    "macro_f1": ["cat", "dog", "cat dog", ""],
}
WHOLE = {
    "balanced_accuracy": ["id,label", "1,0", "02,1", "x,1", "é,0"],
    "map@2": ["id,label", "1,cat", "02,dog cat", "x,dog", "é,cat dog"],
    "macro_f1": ["id,label", "1,cat", "02,dog cat", "x,", "é,dog"],
    "micro_f1": ["id,cat,dog", "1,0,1", "02,1,1", "x,1,0", "é,0,0"],
    "accuracy": ["id,label", "1,cat", "02,dog", "x,dog", "é,cat"],
    "log_loss": ["id,cat,dog", "1,0.5,0.5", "02,0.1,0.9", "x,1,0", "é,.25,.75"],
    "roc_auc": ["id,label", "1,0.5", "02,0.1", "x,1", "é,0"],
}
VALUES = {
    "accuracy": "label",
    "balanced_accuracy": "index",
    "map@2": "labels",
    "macro_f1": "labels",
    "micro_f1": "indicators",
    "log_loss": "probabilities",
    "roc_auc": "probability",
}
STRICTER = re.compile(
    r"order of ids differs|columns: .* in another order|constant column|is not a CSV"
    r"|rows do not have the header's"
)
# Where some lines end in a carriage return alone, pandas may take the next one for a blank one.
LINES_THAT_END_DIFFERENTLY = re.compile(rb"\r(?!\n).*\n", re.DOTALL)

TEXTS = [
    *("", " ", "nan", "NA", "None", "inf", "-inf", "0", "1", "1.0", "0.5", " 0.5", "0.5 ", "\t1"),
    *("1e-1", "1e400", "-0.0", "-1e-9", "1.0000001", "0x1", "1_0", "True", "1,0", "½", "\u0660"),
    *("cat dog", "dog cat", "cat cat", "cat  dog", "cat bird", "dog ", "cat dog cat"),
    *("cat", " cat", "Cat", "dog", '"dog"', "d\0g", '"d""g"', "02", "2", "1 ", "id", "label"),
]
FIELDS = st.sampled_from(TEXTS) | st.text(max_size=3)
Change = tuple[str, tuple[int, int], str]  # what, where, and the text that is put there
SPOTS = st.tuples(st.integers(0, 4), st.integers(0, 3))
CHANGES = st.one_of(
    st.tuples(st.just("field"), SPOTS, FIELDS),
    st.tuples(st.sampled_from(["drop", "repeat", "swap", "append"]), SPOTS, FIELDS),
    st.tuples(st.sampled_from(["insert line", "insert text"]), SPOTS, FIELDS),
)
CHANGED_FILES: dict[str, st.SearchStrategy[Any]] = {
    "changes": st.lists(CHANGES, max_size=3),
    "start": st.sampled_from(["", "\ufeff", "\ufeff\ufeff", "\n", " \n"]),
    "newline": st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    "end": st.sampled_from(["", "\n", "\n\n", "\n  \n", ",", "\x1a"]),
}
FILES_OF_A_METRIC = -(-10_000 // len(WHOLE))


def changed(lines: list[str], change: Change) -> list[str]:
    """The lines with one change at (row, column or character)."""
    kind, (row, column), text = change
    lines = list(lines)
    row = min(row, len(lines) - 1)
    fields = lines[row].split(",")
    match kind:
        case "field":
            fields[min(column, len(fields) - 1)] = text
            lines[row] = ",".join(fields)
        case "drop" if len(lines) > 1:
            del lines[row]
        case "repeat":
            lines.insert(column, lines[row])
        case "swap":
            other = min(column, len(lines) - 1)
            lines[row], lines[other] = lines[other], lines[row]
        case "append":
            lines[row] += f",{text}"
        case "insert line":
            lines.insert(row, text)
        case "insert text":
            lines[row] = lines[row][:column] + text + lines[row][column:]
    return lines


def verdicts(folder: Path, metric: str, content: bytes) -> tuple[str, str]:
    """What the check and what the host finds wrong; empty where nothing is."""
    csv = folder / "submission.csv"
    csv.write_bytes(content)
    columns = tuple(WHOLE[metric][0].split(","))
    form = SubmissionForm(
        columns=columns,
        id_column="id",
        ids=IDS,
        test_ids=IDS,
        values=VALUES[metric],
        classes=CLASSES,
        positive="dog" if metric == "roc_auc" else None,
        multi_label=metric in SEVERAL,
        ranked=metric_named(metric).length,
    )
    try:
        check_submission(csv, form)
        refused = ""
    except SubmissionError as err:
        refused = str(err)
    spec = SubmissionSpec(values=VALUES[metric], positive=form.positive)
    competition = replace(
        PETS, metric=metric, submission=spec, multi_label=form.multi_label or None
    )
    solution = SOLUTION.assign(label=SEVERAL[metric]) if metric in SEVERAL else SOLUTION
    return refused, score_submission(csv, competition, solution).error


def agreed_verdict(folder: Path, metric: str, content: bytes) -> str:
    """What both say of the file: accepted or refused, or refused by a stricter check."""
    refused, unscorable = verdicts(folder, metric, content)
    if unscorable:
        assert refused, content
        return "refused"
    if refused:
        is_stricter = STRICTER.search(refused) or LINES_THAT_END_DIFFERENTLY.search(content)
        assert is_stricter, (content, refused)
        return "refused by the check alone"
    return "accepted"


def changed_file(metric: str, changes: list[Change], start: str, newline: str, end: str) -> bytes:
    """A good file of the metric's form after the changes."""
    lines = WHOLE[metric]
    for change in changes:
        lines = changed(lines, change)
    return (start + newline.join(lines) + end).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("metric", WHOLE)
@given(**CHANGED_FILES)
@example(changes=[("field", (1, 1), " 0.5")], start="\ufeff", newline="\r\n", end="\n")
@settings(max_examples=200, deadline=None)
def test_the_check_and_the_scorer_agree(
    tmp_path_factory: pytest.TempPathFactory,
    metric: str,
    changes: list[Change],
    start: str,
    newline: str,
    end: str,
) -> None:
    content = changed_file(metric, changes, start, newline, end)
    agreed_verdict(tmp_path_factory.getbasetemp(), metric, content)


@pytest.mark.soak
@pytest.mark.parametrize("metric", WHOLE)
def test_the_check_and_the_scorer_agree_on_ten_thousand_changed_files(
    tmp_path: Path, metric: str, record_property: Callable[[str, object], None]
) -> None:
    """The same files each time; an equal share of them for every metric."""
    counts: Counter[str] = Counter()

    @settings(max_examples=FILES_OF_A_METRIC, deadline=None, derandomize=True, database=None)
    @given(**CHANGED_FILES)
    def judge(changes: list[Change], start: str, newline: str, end: str) -> None:
        content = changed_file(metric, changes, start, newline, end)
        counts[agreed_verdict(tmp_path, metric, content)] += 1

    judge()

    record_property("cases", counts.total())
    for verdict, count in counts.items():
        record_property(verdict, count)
    assert counts.total() >= FILES_OF_A_METRIC
    assert min(counts["accepted"], counts["refused"]) > FILES_OF_A_METRIC // 20


@pytest.mark.parametrize("metric", WHOLE)
def test_a_good_file_passes_both(tmp_path: Path, metric: str) -> None:
    assert verdicts(tmp_path, metric, "\n".join(WHOLE[metric]).encode()) == ("", "")


def test_a_row_cut_short_is_refused_by_the_check_alone(tmp_path: Path) -> None:
    """The host takes what is missing for an empty cell, which says that an image has no label."""
    content = "\n".join(WHOLE["macro_f1"]).replace("x,", "x").encode()
    assert agreed_verdict(tmp_path, "macro_f1", content) == "refused by the check alone"


def test_lines_that_end_differently_are_refused_by_the_check_alone(tmp_path: Path) -> None:
    content = b"\r,\r\r\r" + "\n".join(WHOLE["micro_f1"]).encode()
    assert agreed_verdict(tmp_path, "micro_f1", content) == "refused by the check alone"


@pytest.mark.parametrize("text", [" 0.5", "0.5 ", "5e-1"])
def test_numbers_that_pandas_reads_are_numbers(tmp_path: Path, text: str) -> None:
    content = "\ufeff" + "\n".join(WHOLE["roc_auc"]).replace("0.5", text)
    assert verdicts(tmp_path, "roc_auc", content.encode()) == ("", "")
