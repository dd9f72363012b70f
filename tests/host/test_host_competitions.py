"""The competitions made from published images: what they ask, and what they give away."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestNeighbors

from pipeline.competition import Competition, DataSpec
from pipeline.host import layouts
from pipeline.host.catalog import RECIPES, available_competitions, definition
from pipeline.host.layouts import number, sample_submission
from pipeline.host.preparation import Rerun, build, hidden_labels
from pipeline.host.scoring import score_submission
from pipeline.host.services import Services
from pipeline.host.sources import digits
from pipeline.host.sources.bursts import in_bursts
from pipeline.host.sources.cifar10 import ARCHIVE_VARIABLE
from pipeline.host.sources.clothing import falling, side_by_side
from pipeline.host.sources.grades import graded
from pipeline.host.sources.images import Collection, Labelled, first_of_each
from pipeline.host.state import State
from pipeline.metrics import check_metric

DIGITS = Competition(slug="digits", classes=tuple("0123456789"))
ORIENTATION = 0x0112


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Scikit-learn's handwritten digits: 1,297 and 500."""
    return digits.load(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """A host's stores with photo-pieces built."""
    state = State(tmp_path_factory.mktemp("pieces") / "state")
    services = Services.open(state)
    build("photo-pieces", state, services.contests)
    return services


def in_colour(part: Labelled) -> np.ndarray:
    return np.repeat(part.images[..., None], 3, axis=3)


@pytest.mark.parametrize("slug", available_competitions())
def test_the_sample_submission_is_scored(slug: str, tmp_path: Path) -> None:
    competition = definition(slug)
    several = bool(competition.multi_label)
    check_metric(competition.metric or "", multi_label=several, classes=len(competition.classes))
    assert competition.submission.values
    labels = [*competition.classes] * 2
    ids = [str(row) for row in range(len(labels))]
    solution = pd.DataFrame({"label": labels, "public": False}, index=pd.Index(ids, name="id"))
    solution.loc[ids[: len(labels) // 2], "public"] = True
    csv = tmp_path / "sample_submission.csv"
    csv.write_bytes(sample_submission(ids, competition)[1])
    verdict = score_submission(csv, competition, solution)
    assert verdict.error == ""
    assert verdict.public == verdict.private


def test_truth_is_the_best_possible_answer_of_several_labels(real: Collection, tmp_path) -> None:
    pairs = side_by_side(real.test, 200, np.random.default_rng(0))
    competition = replace(definition("side-by-side"), classes=DIGITS.classes)
    solution = hidden_labels(number(pairs, competition, 1)).set_index("id")
    csv = tmp_path / "submission.csv"
    csv.write_text(solution["label"].to_csv())
    verdict = score_submission(csv, competition, solution)
    assert (verdict.public, verdict.private) == (1.0, 1.0)


def test_pairs_are_labelled_with_what_they_show(real: Collection) -> None:
    pairs = side_by_side(real.train, 600, np.random.default_rng(0))
    assert pairs.images.shape == (600, 8, 16)
    shown_by = zip(real.train.images, real.train.labels, strict=True)
    by_bytes = {image.tobytes(): label for image, label in shown_by}
    for image, labels in zip(pairs.images, pairs.labels, strict=True):
        halves = [image[:, :8].tobytes(), image[:, 8:].tobytes()]
        shown = {by_bytes[half] for half in halves if any(half)}
        assert shown == set(np.flatnonzero(labels))
    assert (~pairs.labels.any(axis=1)).mean() == pytest.approx(0.05, abs=0.02)
    cells = number(pairs, replace(DIGITS, data=DataSpec(label_separator="|")), 1).labels
    assert {cell.count("|") for cell in cells if cell} == {0, 1}
    assert "" in cells


def test_thirty_percent_are_public_also_where_labels_are_rare(real: Collection) -> None:
    pairs = side_by_side(real.test, 250, np.random.default_rng(0))
    solution = hidden_labels(number(pairs, DIGITS, 1))
    assert solution["label"].value_counts().min() == 1
    assert solution["public"].sum() == 75


def test_bursts_are_near_copies_and_stay_in_one_part(real: Collection) -> None:
    photos = Labelled(np.kron(real.test.images, np.ones((4, 4), np.uint8)), real.test.labels)
    bursts = in_bursts(photos, np.random.default_rng(0))
    assert np.bincount(np.bincount(bursts.groups)).tolist() == [0, 125, 125, 125, 125]
    copies, originals = (x.images.reshape(len(x), -1).astype(float) for x in (bursts, photos))
    assert np.abs(copies - originals[bursts.groups]).max(axis=1).min() > 5
    nearest = NearestNeighbors(n_neighbors=1).fit(originals).kneighbors(copies)[1][:, 0]
    assert (nearest == bursts.groups).mean() > 0.5  # by chance: 0.002
    np.testing.assert_array_equal(bursts.labels, real.test.labels[bursts.groups])
    competition = replace(DIGITS, data=DataSpec(group_column="burst"))
    shuffled = bursts.take(np.random.default_rng(1).permutation(len(bursts)))
    part = number(shuffled, competition, 1)
    solution = hidden_labels(part).assign(burst=part.groups["burst"])
    assert solution.groupby("burst")["public"].nunique().max() == 1
    assert solution["public"].mean() == pytest.approx(0.3, abs=0.03)
    assert solution.groupby("label")["public"].mean().between(0.2, 0.4).all()

    files = dict(layouts.table(part, part))
    train = pd.read_csv(io.BytesIO(files["train.csv"]), dtype=str)
    assert list(train.columns) == ["id", "label", "burst"]
    assert train["burst"].tolist() == shuffled.groups.astype(str).tolist()


def test_worse_grades_are_farther_from_the_photograph(real: Collection) -> None:
    photos = in_colour(real.train)
    worse = graded(photos, 1000, np.random.default_rng(0))
    assert np.bincount(worse.labels).tolist() == [450, 250, 150, 100, 50]
    order = np.random.default_rng(0).permutation(len(photos))[:1000]
    damage = np.abs(worse.images.astype(int) - photos[order]).mean(axis=(1, 2, 3))
    means = [damage[worse.labels == grade].mean() for grade in range(5)]
    assert means[0] == 0
    assert means == sorted(set(means))


def test_class_counts_fall_by_one_factor(real: Collection) -> None:
    assert falling(3_000, 7) == [3000, 1821, 1105, 671, 407, 247, 150]
    skewed = first_of_each(real.train, (7, 2, 5), falling(100, 3))
    assert np.bincount(skewed.labels).tolist() == [100, 22, 5]
    sevens = real.train.images[real.train.labels == 7][:100]
    np.testing.assert_array_equal(skewed.images[skewed.labels == 0], sevens)


@pytest.mark.parametrize(
    "make",
    [
        lambda part, rng: side_by_side(part, 50, rng),
        in_bursts,
        lambda part, rng: graded(in_colour(part), 50, rng),
    ],
)
def test_the_same_seed_makes_the_same_images(make, real: Collection) -> None:
    first, second = (make(real.test, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)


def served(pieces: Services, folder: str) -> dict[str, Image.Image]:
    with zipfile.ZipFile(pieces.state.archive("photo-pieces")) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{folder}/")]
        return {name: Image.open(io.BytesIO(archive.read(name))) for name in names}


def test_photo_pieces_twice_are_the_same_zip(pieces: Services, tmp_path: Path) -> None:
    again = Services.open(State(tmp_path))
    build("photo-pieces", again.state, again.contests)
    archives = [services.state.archive("photo-pieces") for services in (pieces, again)]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_photo_pieces_have_many_sizes_and_some_lie_on_their_side(pieces: Services) -> None:
    images = served(pieces, "train")
    assert len(images) == 1500
    tags = [dict(image.getexif()) for image in images.values()]
    assert {key for tag in tags for key in tag} == {ORIENTATION}
    turned = [tag.get(ORIENTATION) for tag in tags]
    assert 200 < turned.count(6) + turned.count(8) < 600
    upright = [ImageOps.exif_transpose(image).size for image in images.values()]
    assert len(set(upright)) > 1000
    assert all(90 <= side <= 300 for size in upright for side in size)
    assert all(w < h for (w, h), turn in zip(upright, turned, strict=True) if turn)


def test_names_order_sizes_and_tags_of_photo_pieces_tell_nothing(pieces: Services) -> None:
    solution = pieces.contests.solution("photo-pieces")["label"]
    with zipfile.ZipFile(pieces.state.archive("photo-pieces")) as archive:
        train = pd.read_csv(archive.open("train.csv"), dtype=str).set_index("id")["label"]
        sample = pd.read_csv(archive.open("sample_submission.csv"), dtype=str)
    images = {Path(n).stem: i for f in ("train", "test") for n, i in served(pieces, f).items()}
    assert sample["label"].nunique() == 1
    assert set(sample["id"]) == set(solution.index)
    assert set(images) == {*train.index, *solution.index}

    def told(ids: pd.Index) -> list[list[int]]:
        rows = [(int(n), *images[n].size, images[n].getexif().get(ORIENTATION, 1)) for n in ids]
        return [[*row, row[0] % 12, row[0] % 50] for row in rows]

    forest = RandomForestClassifier(random_state=0).fit(told(train.index), train)
    assert (forest.predict(told(solution.index)) == solution).mean() < 0.15


def test_a_rerun_of_photo_pieces_is_scored_by_its_own_labels(pieces: Services) -> None:
    rerun = pieces.preparation.rerun("photo-pieces")
    solution = rerun.solution()
    assert len(solution) == len(list((rerun.files / "test").iterdir())) == 360
    assert not set(solution.index) & set(pieces.contests.solution("photo-pieces").index)
    competition = definition("photo-pieces")
    verdict = score_submission(rerun.files / "sample_submission.csv", competition, solution)
    # Three of the twelve are named: 1, 1/2 and 1/3 for a twelfth each.
    assert verdict.private == pytest.approx((1 + 1 / 2 + 1 / 3) / 12, abs=0.04)


def test_a_rerun_keeps_the_images_without_a_label(real: Collection, tmp_path: Path) -> None:
    pairs = side_by_side(real.test, 200, np.random.default_rng(0))
    solution = hidden_labels(number(pairs, DIGITS, 1))
    solution.to_csv(tmp_path / "solution.csv", index=False)
    read = Rerun(tmp_path, tmp_path / "solution.csv").solution()
    assert "" in set(read["label"])
    pd.testing.assert_frame_equal(read.reset_index(), solution, check_dtype=False)


@pytest.mark.skipif(
    not os.environ.get(ARCHIVE_VARIABLE),
    reason=f"{ARCHIVE_VARIABLE} names no archive, and fetching one takes 140 MB",
)
@pytest.mark.parametrize(
    ("slug", "train", "test", "digests"),
    [
        ("vehicles", [1500] * 4, [600] * 4, ["6403eaa362f5", "b7c994692452"]),
        (
            "compression-grade",
            [2250, 1250, 750, 500, 250],
            [900, 500, 300, 200, 100],
            ["c42e3abf63ad", "8e24cc2e0444"],
        ),
        ("cat-or-dog-bursts", [2511, 2489], [747, 753], ["5f4dbaa6f866", "a44cceee36f0"]),
    ],
)
def test_competitions_from_the_published_cifar(
    slug: str, train: list[int], test: list[int], digests: list[str], tmp_path: Path
) -> None:
    collection = RECIPES[slug].load(tmp_path)
    assert np.bincount(collection.train.labels).tolist() == train
    assert np.bincount(collection.test.labels).tolist() == test
    both = (collection.train, collection.test)
    assert [hashlib.sha256(part.images).hexdigest()[:12] for part in both] == digests
