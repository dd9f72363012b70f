"""The submission has the competition's own form, and no broken file passes the check."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.competition import Competition, SubmissionSpec
from pipeline.data.submission import (
    SubmissionForm,
    check_submission,
    predictions_sha256,
    read_form,
    submission_csv,
)
from pipeline.errors import ConfigError, DataError, SubmissionError
from pipeline.metrics import Decision

PETS = Competition(slug="pets")
IDS = ["07", "1", "2"]
BEST = Decision("argmax")
SOURCE = Path("run/test.csv")
CLASSES = ("bird", "cat", "dog")
ALL_VALUES = ["label", "index", "probabilities", "probability"]


def probabilities(ids=IDS, classes=CLASSES, seed=0) -> pd.DataFrame:
    values = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), len(ids))
    return pd.DataFrame(values, index=ids, columns=list(classes))


def form_of(tmp_path, sample: str, classes=CLASSES, test_ids=IDS, competition=PETS):
    (tmp_path / "sample_submission.csv").write_text(sample, encoding="utf-8")
    return read_form(tmp_path, competition, tuple(classes), list(test_ids))


# --- the form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "classes", "metric", "values"),
    [
        ("cat cat dog", CLASSES, None, "label"),
        ("0 0 0", CLASSES, None, "index"),
        ("0 2 1", CLASSES, None, "index"),
        ("0 0 0", ("0", "1", "2"), None, "label"),
        ("1 1 1", ("1", "2", "3"), None, "label"),
        ("0.5 0.5 0.5", ("cat", "dog"), None, "probability"),
        ("0.0 0.0 0.0", ("0", "1"), None, "probability"),
        ("0 0 0", ("0", "1"), "roc_auc", "probability"),
        ("0 0 0", ("0", "1"), "accuracy", "label"),
        ("0 0 0", ("cat", "dog"), "log_loss", "probability"),
        ("0 0 0", ("cat", "dog"), "accuracy", "index"),
        ("0 1 1", ("cat", "dog"), None, "index"),
        ("0 1 1", ("0", "1"), None, "label"),
        ("0 0 0", ("0", "1"), None, "could be label or probability; set `[submission] values`"),
        ("0 0 0", ("cat", "dog"), None, "could be index or probability; set `[submission] values`"),
        (
            "0.5 0.5 0.5",
            CLASSES,
            None,
            "or probabilities; set `[submission] values`",
        ),
        ("0 0 0", ("1", "2", "3"), None, "are no classes ("),
        ("x y z", CLASSES, None, "are no classes ("),
    ],
)
def test_the_kind_of_values(tmp_path, column, classes, metric, values):
    rows = "".join(f"{name},{text}\n" for name, text in zip(IDS, column.split(), strict=True))
    spec = SubmissionSpec(positive=classes[-1])
    competition = replace(PETS, metric=metric, submission=spec)
    if values not in ALL_VALUES:
        with pytest.raises(ConfigError, match=re.escape(values)):
            form_of(tmp_path, f"id,label\n{rows}", classes, competition=competition)
    else:
        form = form_of(tmp_path, f"id,label\n{rows}", classes, competition=competition)
        assert form.values == values


def test_a_column_per_class_in_the_samples_order(tmp_path):
    form = form_of(tmp_path, "\ufeffdog,id,bird,cat\n0,2,0,1\n0,07,0,1\n0,1,0,1\n")
    assert form.columns == ("dog", "id", "bird", "cat")
    assert (form.values, form.classes) == ("probabilities", ("dog", "bird", "cat"))
    predictions = probabilities()
    table = pd.read_csv(write(tmp_path, form, predictions), dtype={"id": str}).set_index("id")
    assert list(table.index) == ["2", "07", "1"]
    pd.testing.assert_frame_equal(
        table[list(CLASSES)], predictions.loc[["2", "07", "1"]], check_names=False
    )


@pytest.mark.parametrize("suffixes", [(".jpg", ""), ("", ".jpg"), (".jpg", ".png")])
def test_ids_with_and_without_extension_are_the_same(tmp_path, suffixes):
    sample = "".join(f"{name}{suffixes[0]},cat\n" for name in IDS)
    test_ids = [f"{name}{suffixes[1]}" for name in reversed(IDS)]
    form = form_of(tmp_path, f"id,label\n{sample}", test_ids=test_ids)
    csv = write(tmp_path, form, probabilities(test_ids))
    expected = probabilities(test_ids).idxmax(axis=1)
    lines = [f"{name}{suffixes[0]},{expected[f'{name}{suffixes[1]}']}" for name in IDS]
    assert csv.read_text().splitlines() == ["id,label", *lines]
    check_submission(csv, form)


@pytest.mark.parametrize(
    ("classes", "target", "spec", "positive"),
    [
        (("0", "1"), "label", None, "1"),
        (("False", "True"), "label", None, "True"),
        (("cat", "dog"), "cat", None, "cat"),
        (("cat", "dog"), "label", "dog", "dog"),
        (("cat", "dog"), "label", None, None),
        (("cat", "dog"), "label", "cow", None),
    ],
)
def test_the_positive_class(tmp_path, classes, target, spec, positive):
    rows = "".join(f"{name},0.5\n" for name in IDS)
    competition = replace(PETS, submission=SubmissionSpec(positive=spec))
    if positive is None:
        with pytest.raises(ConfigError, match=r"`\[submission\] positive`.*candidates: cat, dog"):
            form_of(tmp_path, f"id,{target}\n{rows}", classes, competition=competition)
        return
    form = form_of(tmp_path, f"id,{target}\n{rows}", classes, competition=competition)
    assert form.positive == positive
    predictions = probabilities(classes=classes)
    table = pd.read_csv(write(tmp_path, form, predictions), dtype={"id": str})
    np.testing.assert_allclose(table[target], predictions[positive], rtol=1e-8)


def test_without_a_sample_the_definition_decides(tmp_path):
    with pytest.raises(ConfigError, match=r"no sample submission.*`\[submission\] id`"):
        read_form(tmp_path, PETS, CLASSES, IDS)
    named = replace(PETS, submission=SubmissionSpec(id="image", target="kind", values="label"))
    form = read_form(tmp_path, named, CLASSES, IDS)
    assert (form.columns, form.ids) == (("image", "kind"), IDS)
    named = replace(PETS, submission=SubmissionSpec(id="image", values="probabilities"))
    assert read_form(tmp_path, named, CLASSES, IDS).columns == ("image", *CLASSES)


def test_a_definition_that_contradicts_the_sample(tmp_path):
    sample = "id,label\n07,cat\n1,cat\n2,cat\n"
    for spec, match in (
        (SubmissionSpec(id="image"), r"no column 'image'; set `\[submission\] id`"),
        (SubmissionSpec(target="kind"), r"`\[submission\] target`"),
        (SubmissionSpec(values="probabilities"), r"`\[submission\] values`"),
        (SubmissionSpec(values="probability"), r"needs two classes, and there are 3"),
        (SubmissionSpec(sample="other.csv"), r"other.csv does not exist"),
    ):
        with pytest.raises(ConfigError, match=match):
            form_of(tmp_path, sample, competition=replace(PETS, submission=spec))
    with pytest.raises(DataError, match=r"its 2 value columns are not the 3 classes: column 'x'"):
        form_of(tmp_path, "id,x,y\n07,1,1\n1,1,1\n2,1,1\n")
    with pytest.raises(ConfigError, match=r"which column holds the ids.*candidates: a, b"):
        form_of(tmp_path, "a,b\nx,u\ny,v\nz,w\n")


@pytest.mark.parametrize("values", [None, "probabilities"])
def test_columns_that_are_not_the_classes(tmp_path, values):
    competition = replace(PETS, submission=SubmissionSpec(values=values))
    sample = "id,moose,cat\n07,0,1\n1,0,1\n2,0,1\n"
    with pytest.raises(
        DataError,
        match=r"column 'moose' is no class; class 'elk' has no column; give the .* columns' names",
    ):
        form_of(tmp_path, sample, ("cat", "elk"), competition=competition)
    with pytest.raises(DataError, match=r"set `classes` in data/pets/competition.toml to the col"):
        form_of(tmp_path, sample, ("0", "1"), competition=competition)
    assert form_of(tmp_path, sample, ("cat", "moose"), competition=competition).values == (
        "probabilities"
    )


def test_all_keys_are_asked_for_at_once(tmp_path):
    sample = "".join(f"{name},0\n" for name in IDS)
    with pytest.raises(ConfigError) as caught:
        form_of(tmp_path, f"id,label\n{sample}", ("cat", "dog"))
    assert str(caught.value).endswith(
        "set `[submission] values` in data/pets/competition.toml, candidates: index, probability; "
        "with probability set `[submission] positive` too, candidates: cat, dog"
    )
    both = replace(PETS, submission=SubmissionSpec(values="probability", positive="dog"))
    assert form_of(tmp_path, f"id,label\n{sample}", ("cat", "dog"), competition=both).positive
    (tmp_path / "sample_submission.csv").unlink()
    one = replace(PETS, submission=SubmissionSpec(values="probability"))
    with pytest.raises(ConfigError, match=r"\] id, .*\] target, .*\] positive missing; set"):
        read_form(tmp_path, one, ("cat", "dog"), IDS)


def test_a_sample_of_other_ids(tmp_path):
    with pytest.raises(DataError, match=r"1 of 4 ids are no test image, first '9'"):
        form_of(tmp_path, "id,label\n07,cat\n1,cat\n2,cat\n9,cat\n")
    with pytest.raises(DataError, match=r"1 of 3 test images have no row, first '2'"):
        form_of(tmp_path, "id,label\n07,cat\n1,cat\n")
    with pytest.raises(DataError, match=r"first '7'"):
        form_of(tmp_path, "id,label\n7,cat\n1,cat\n2,cat\n")


# --- writing and the check ----------------------------------------------------------------------


def write(folder, form: SubmissionForm, predictions: pd.DataFrame):
    path = folder / "submission.csv"
    path.write_bytes(submission_csv(form, predictions, BEST, SOURCE))
    return path


def make_form(values: str, ids=IDS, classes=CLASSES) -> SubmissionForm:
    targets = classes if values == "probabilities" else ("label",)
    return SubmissionForm(
        columns=("id", *targets),
        id_column="id",
        ids=list(ids),
        test_ids=list(ids),
        values=values,
        classes=tuple(classes),
        positive="cat" if values == "probability" else None,
    )


@pytest.mark.parametrize("values", ALL_VALUES)
def test_what_is_written_passes(tmp_path, values):
    ids = [f"{n:03}" for n in range(50)]
    form = make_form(values, ids)
    predictions = probabilities(ids)
    csv = write(tmp_path, form, predictions)
    check_submission(csv, form)
    assert b"\r" not in csv.read_bytes()
    table = pd.read_csv(csv, dtype=str)
    best = predictions.to_numpy().argmax(axis=1)
    if values == "label":
        assert list(table["label"]) == [CLASSES[k] for k in best]
    if values == "index":
        assert list(table["label"]) == [str(k) for k in best]


def test_a_rule_is_of_the_classes_in_the_order_of_the_predictions():
    """Three of them: of two, an order and the way back from it are the same."""
    rows = [[0.2, 0.5, 0.3], [0.0, 0.4, 0.6], [0.3, 0.3, 0.4]]
    predictions = pd.DataFrame(rows, IDS, ["dog", "bird", "cat"])
    dogs_first = Decision("weights", (10, 1, 1))

    written = submission_csv(make_form("label"), predictions, dogs_first, SOURCE)

    assert written == b"id,label\n07,dog\n1,cat\n2,dog\n"


def test_predictions_that_do_not_fit_are_not_written():
    form, good = make_form("label"), probabilities()
    for predictions, match in (
        (good.drop(index="07"), "1 of 3 test ids have no prediction, first '07'"),
        (pd.concat([good, good[:1]]), "1 predictions repeat an id, first '07'"),
        (good.drop(columns="cat"), "differ in 1 names, first 'cat'"),
        (good.assign(cow=0.0), "differ in 1 names, first 'cow'"),
        (good.replace(good.loc["1", "dog"], np.nan), "NaN or infinite, first id '1'"),
        (good.replace(good.loc["2", "cat"], np.inf), "NaN or infinite, first id '2'"),
    ):
        with pytest.raises(
            SubmissionError, match=rf"^run/test\.csv: .*{match}.*; delete that file and rerun$"
        ):
            submission_csv(form, predictions, BEST, SOURCE)


def lines_of(form: SubmissionForm) -> list[str]:
    return submission_csv(form, probabilities(form.ids), BEST, SOURCE).decode().splitlines()


@pytest.mark.parametrize(
    ("values", "change", "match"),
    [
        ("label", lambda t: ["id,class", *t[1:]], "columns: id, class instead of id, label"),
        ("label", lambda t: [f"{t[0]},x", *[f"{r},1" for r in t[1:]]], "difference 'x'"),
        ("label", lambda t: [",".join(r.split(",")[::-1]) for r in t], "columns.*another order"),
        ("label", lambda t: [t[0], *t[2:]], "row count 2, not 3: missing ids: 1 .* id '07'"),
        ("label", lambda t: [*t, t[1]], "duplicate ids: 1 of 4, first id '07'"),
        ("label", lambda t: [*t[:-1], "9,cat"], "unknown ids: 1 of 3, first id '9'"),
        ("label", lambda t: [t[0], "7,cat", *t[2:]], "unknown ids: 1 of 3, first id '7'"),
        ("label", lambda t: [t[0], t[2], t[1], t[3]], "order of ids.*: 2 of 3, first id '1'"),
        ("label", lambda t: [*t[:-1], "2,"], "missing values: 1 of 3, first id '2'"),
        ("label", lambda t: [*t[:-1], "2,nan"], "missing values: 1 of 3, first id '2'"),
        ("label", lambda t: [*t[:-1], "2,cow"], "no class names: 1 of 3, first id '2' .'cow'"),
        ("index", lambda t: [*t[:-1], "2,3"], "no class indices 0 to 2: 1 of 3, first id '2'"),
        ("index", lambda t: [*t[:-1], "2,1.0"], "no class indices 0 to 2: 1 of 3, first id '2'"),
        ("label", lambda t: [t[0], "07,cat", "1,cat", "2,cat"], "constant column 'label'"),
        ("probability", lambda t: [t[0], "07,.5", "1,0.5", "2,0.50"], "constant column 'label'"),
        ("probability", lambda t: [*t[:-1], "2,"], "missing values .NaN. in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,NaN"], "missing values .NaN. in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,inf"], "infinite values in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,1e999"], "infinite values in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,cat"], "no number in 'label': 1 of 3, first id '2'"),
        ("probability", lambda t: [*t[:-1], "2,True"], "no number in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,1.01"], r"outside \[0, 1\] in 'label': 1 of 3"),
        ("probability", lambda t: [*t[:-1], "2,-1e-9"], r"outside \[0, 1\] in 'label': 1 of 3"),
        ("probabilities", lambda t: [*t[:-1], "2,.5,.5,.5"], "do not add up to 1.*first id '2'"),
        ("probabilities", lambda t: [*t[:-1], "2,.32,.35,.35"], "do not add up to 1.*first id '2'"),
        ("probabilities", lambda t: [t[0], "07,0,.4,.6", "1,0,1,0", "2,0,0,1"], "column 'bird'"),
        ("probabilities", lambda t: [t[0], "07,.4,0,.6", "1,1,0,0", "2,0,0,1"], "column 'cat'"),
        ("label", lambda t: [*t[:-1], "2,cat,dog"], "1 rows do not have the header's 2 fields"),
        ("label", lambda t: [], "is empty"),
        ("label", lambda t: ["id,label"], "row count 0, not 3"),
        ("label", lambda t: ["id,id"], "column 'id' appears twice"),
        ("label", lambda t: [*t, '"open'], "is not a CSV in UTF-8"),
    ],
)
def test_every_broken_rule_is_named(tmp_path, values, change, match):
    form = make_form(values)
    csv = tmp_path / "submission.csv"
    csv.write_text("\n".join(change(lines_of(form))) + "\n" * bool(change(lines_of(form))))
    with pytest.raises(SubmissionError, match=match) as caught:
        check_submission(csv, form)
    assert "submission.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_one_row_alone_is_no_constant_column(tmp_path):
    form = make_form("label", IDS[:1])
    check_submission(write(tmp_path, form, probabilities(IDS[:1])), form)


def test_a_missing_file(tmp_path):
    with pytest.raises(SubmissionError, match="does not exist"):
        check_submission(tmp_path / "no.csv", make_form("label"))


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_pass_or_crash(tmp_path_factory, data):
    csv = tmp_path_factory.getbasetemp() / "bytes.csv"
    csv.write_bytes(data)
    form = make_form("probabilities")
    for check in (check_submission, predictions_sha256):
        with pytest.raises(SubmissionError):
            check(csv, form)


@given(
    values=st.sampled_from(ALL_VALUES),
    row=st.integers(1, 8),
    column=st.integers(0, 3),
    text=st.text(st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=12)
    | st.floats().map(str),
)
@settings(max_examples=300, deadline=None)
def test_one_changed_field_is_found_or_harmless(tmp_path_factory, values, row, column, text):
    form = make_form(values, [f"{n:03}" for n in range(8)])
    lines = [line.split(",") for line in lines_of(form)]
    column = min(column, len(lines[0]) - 1)
    before, lines[row][column] = lines[row][column], text
    csv = tmp_path_factory.getbasetemp() / "changed.csv"
    csv.write_bytes("\n".join(map(",".join, lines)).encode())
    failure = failure_of(csv, form)
    if failure is not None:
        assert text != before
        assert repr(lines[row][0])[1:-1] in failure or "fields" in failure
    elif text != before:
        assert column > 0
        if values == "label":
            assert text in CLASSES
        elif values == "index":
            assert text in {"0", "1", "2"}
        else:
            assert 0 <= float(text) <= 1


def failure_of(csv, form: SubmissionForm) -> str | None:
    try:
        check_submission(csv, form)
    except SubmissionError as err:
        return str(err)
    return None


@given(
    ids=st.lists(
        # Python's csv does not quote a lone carriage return; the check refuses what comes of it.
        st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1),
        min_size=2,
        max_size=9,
        unique=True,
    ),
    values=st.sampled_from(ALL_VALUES),
)
@settings(max_examples=100, deadline=None)
def test_any_ids_survive(tmp_path_factory, ids, values):
    form = make_form(values, ids)
    predictions = pd.DataFrame(np.eye(3)[np.arange(len(ids)) % 3], ids, list(CLASSES))
    csv = write(tmp_path_factory.getbasetemp(), form, predictions)
    if values == "probabilities" and len(ids) < 3:
        return
    check_submission(csv, form)


def test_the_hash_is_that_of_the_predictions(tmp_path):
    ids = [f"{n}" for n in range(6)]
    form = make_form("probabilities", ids)
    csv = tmp_path / "submission.csv"
    lines = submission_csv(form, probabilities(ids), BEST, SOURCE).decode().splitlines()

    def digest(changed: list[str]) -> str:
        csv.write_text("\r\n".join(changed))
        return predictions_sha256(csv, form)

    first = digest(lines)
    assert digest([lines[0], *reversed(lines[1:])]) == first
    rounded = [",".join([i, *(f"{float(x):.8f}" for x in r)]) for i, *r in map(split, lines[1:])]
    assert digest([lines[0], *rounded]) == first
    assert digest(lines_of(replace(form, ids=ids, test_ids=ids))) == first
    assert digest([*lines[:-1], "5,0.2,0.3,0.5"]) != first
    nearly = digest([*lines[:-1], "5,0.200002,0.299998,0.5"])
    assert nearly != digest([*lines[:-1], "5,0.2,0.3,0.5"])
    assert digest([*lines[:-1], "5,-1e-9,1,0"]) == digest([*lines[:-1], "5,0,1,0"])
    with pytest.raises(SubmissionError, match="columns"):
        digest(["id,label", "1,cat"])


def split(line: str) -> list[str]:
    return line.split(",")
