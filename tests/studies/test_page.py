"""The results page comes from the JSON alone, and says which figures miss the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BudgetError, ConfigError, DataError
from pipeline.stages.settings import Settings
from pipeline.studies.channel_selection import STUDY
from pipeline.studies.page import page, write_page
from pipeline.studies.reproduce import reproduce
from pipeline.studies.table import study_rows
from tests.studies.results import keep

REPOSITORY = Path(__file__).parents[2]


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    committed = (REPOSITORY / "submissions/RESULTS.md").read_text(encoding="utf-8")
    assert committed == page(REPOSITORY)[0]


def test_every_picture_of_the_committed_page_is_there() -> None:
    committed = (REPOSITORY / "submissions/RESULTS.md").read_text(encoding="utf-8")
    pictures = [line.split("](")[1][:-1] for line in committed.splitlines() if line[:2] == "!["]
    assert pictures
    for picture in pictures:
        assert (REPOSITORY / "submissions" / picture).is_file()


def test_seeds_add_up_to_mean_and_deviation(tmp_path: Path) -> None:
    for seed, private in enumerate((0.83, 0.84, 0.85)):
        keep(tmp_path, "published-recipe", "subkernel", seed, {"private": private})

    found = study_rows(tmp_path, STUDY, "cpu")
    rows = {(row.part, row.variant, row.figure): row for row in found}

    row = rows["published-recipe", "subkernel", "private"]
    assert (row.published, row.ours, row.n) == ("0.8417", "0.8400 ± 0.0100", "3")
    assert (row.ratio, row.verdict) == ("0.998", "**missed**")
    assert rows["our-recipe", "subkernel", "private"].ours == "not measured"


def test_the_page_says_where_its_figures_come_from(tmp_path: Path) -> None:
    keep(tmp_path, "published-recipe", "subkernel", 0, {"private": 0.9})

    text = write_page(tmp_path).read_text(encoding="utf-8")

    assert "`make reproduce STUDY=channel-selection SCALE=cpu SEEDS=0`" in text
    assert "| published-recipe | subkernel | private | 0.8417 | 0.9 | 1 | 1.069 | met |" in text
    assert "cores of" in text
    folder = tmp_path / "submissions/studies/channel-selection/cpu"
    assert (folder / "convolutions.png").read_bytes()[:4] == b"\x89PNG"


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    path = keep(tmp_path, "published-recipe", "subkernel", 0, {"private": 0.9})
    path.write_text("{}")
    with pytest.raises(DataError, match=f"{path.name} is no result of a study: 8 keys"):
        page(tmp_path)


@pytest.mark.parametrize(
    ("study", "scale", "seeds", "message"),
    [
        ("chanel", "smoke", ["0"], "STUDY='chanel' is unknown; choose from channel-selection"),
        ("all", "huge", ["0"], "SCALE='huge' is unknown; choose from smoke, cpu, gpu"),
        ("all", "smoke", ["x"], "SEEDS='x': whole numbers"),
    ],
)
def test_bad_choices_are_named(
    tmp_path: Path, study: str, scale: str, seeds: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        reproduce(Settings(root=tmp_path), study, scale, seeds)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"model": "resnet18"}, "MODEL='resnet18'"),
        ({"size": 16}, "SIZE=16"),
        ({"set": "epochs=1"}, "SET='epochs=1'"),
        ({"seed": 1}, "SEED=1"),
    ],
    ids=str,
)
def test_what_a_study_has_from_its_document_is_no_choice(
    other: dict[str, Any], told: str, tmp_path: Path
) -> None:
    settings = Settings(host="local", root=tmp_path, budget="0s", **other)
    with pytest.raises(ConfigError, match=f"{told}: a study trains what its document has"):
        reproduce(settings, "channel-selection", "smoke", ["0"])


def test_a_budget_that_has_ended_measures_nothing(tmp_path: Path) -> None:
    settings = Settings(host="local", root=tmp_path, budget="0s")
    with pytest.raises(BudgetError, match="rerun to continue"):
        reproduce(settings, "channel-selection", "smoke", ["0"])
    assert not (tmp_path / "submissions").exists()
