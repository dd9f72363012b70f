"""The convolution from scratch: one operation in three ways, and one training in two."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from pipeline.errors import ConfigError
from pipeline.models import make_model
from pipeline.stages.settings import Settings
from pipeline.studies.cells import Bench, Cell, Result
from pipeline.studies.datasets import load_benchmark
from pipeline.studies.fitting import fit
from pipeline.studies.from_scratch import published_recipe
from pipeline.studies.from_scratch_report import _draw_one, largest_difference, pairs_by_seed
from pipeline.studies.photo import (
    FILTERS,
    by_library,
    by_loops,
    by_shifted_slices,
    kernel_of,
    load_photo,
)
from pipeline.training.deadline import Deadline
from tests.studies.measuring import (
    assert_explained_and_drawn,
    assert_published_figures_are_measured,
    figures,
    measured,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("from-scratch"), "from-scratch")


@pytest.mark.parametrize("name", FILTERS)
def test_three_ways_to_filter_a_photo_give_one_image(name):
    photo, kernel = load_photo(10), kernel_of(name)
    truth = by_loops(photo, kernel)

    assert truth.shape == (1, 3, 8, 8)
    torch.testing.assert_close(by_library(photo, kernel), truth)
    torch.testing.assert_close(by_shifted_slices(photo, kernel), truth)


def test_filters_do_what_they_are_called():
    photo, flat = load_photo(10), torch.full((1, 3, 5, 5), 0.5)

    torch.testing.assert_close(by_library(photo, kernel_of("identity")), photo[:, :, 1:-1, 1:-1])
    for name, brightness in (("emboss", 0.5), ("sharpen", 0.5), ("edge detect", 0.0)):
        torch.testing.assert_close(
            by_library(flat, kernel_of(name)), torch.full((1, 3, 3, 3), brightness)
        )


def test_the_photo_is_whole_where_there_is_room():
    assert load_photo(10_000).shape == (1, 3, 400, 600)


def test_the_same_seed_gives_the_same_curve_by_the_library_and_by_shifted_slices(results):
    library, shifted = pairs_by_seed(results)[0]

    assert library["setup"]["execution"]["convolutions"].startswith("folded")
    assert shifted["setup"]["execution"]["convolutions"].startswith("4 shifted")
    assert len(library.curves["step_loss"]) == len(shifted.curves["step_loss"]) > 30
    assert 0 < largest_difference(library, shifted) < 1e-4


def test_a_training_that_was_taken_up_again_is_compared_from_there_on(results):
    library, shifted = pairs_by_seed(results)[0]
    rest = shifted.curves["step_loss"][-5:]
    resumed = Result(shifted.path, {**shifted.values, "curves": {"step_loss": rest}})
    differences = [
        abs(own - other) for own, other in zip(library.curves["step_loss"][-5:], rest, strict=True)
    ]

    assert largest_difference(library, resumed) == max(differences)


def test_a_training_that_was_taken_up_again_is_drawn_from_there_on():
    curves = {"step_loss": [3.0, 2.0], "valid_accuracy": [0.5, 0.6], "seconds": [10.0, 30.0]}
    resumed = Result(Path(), {"setup": {"steps": 8}, "curves": curves})
    figure = Figure()
    axes = [figure.add_subplot(1, 4, number) for number in range(1, 5)]

    _draw_one(axes, resumed, "library", "-")

    steps, seconds, epochs, ends = (each.lines[0].get_xdata().tolist() for each in axes)
    assert (steps, seconds) == ([7, 8], [32.5, 40])
    assert (epochs, ends) == ([4, 8], [10, 40])


def test_loops_are_slower_by_orders_of_magnitude(results):
    assert figures(results, "photo", "four-filters")["loops_to_library"] > 100


def test_words_plots_and_published_figures(results):
    assert_explained_and_drawn("from-scratch", results, {"gallery.png", "training.png"})
    assert_published_figures_are_measured("from-scratch", results)


def test_an_execution_that_the_convolution_does_not_offer_is_refused(tmp_path: Path):
    bench = Bench(
        settings=Settings(root=tmp_path), scale="smoke", deadline=Deadline(), scratch=tmp_path
    )
    cell = Cell(study="from-scratch", part="mnist", variant="x", seed=0, measure=lambda *_: None)
    data = load_benchmark("digits", "cpu")

    def build():
        return make_model("mnist-net", "subkernel", 1, 10, 0.2)

    with pytest.raises(ConfigError, match="EXECUTION='factored' does not exist for subkernel"):
        fit(bench, cell, data, build, published_recipe(1), executions="factored")
