"""A trained run as ONNX files, and networks that cannot be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from pipeline.artifacts import write_json, write_manifest
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError
from pipeline.stages.export import export
from pipeline.stages.settings import Settings, check_settings
from pipeline.training.run import Run
from tests.stages.commands import Command, Outcome, run_pipeline, write_digit_images
from tests.training.runs import digit_images, make_run, write_cache

SMALL = ("--competition", "mine", "--folds", "2", "--recipe", "smoke")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A checkout in which a competition by hand was trained and exported."""
    root = tmp_path_factory.mktemp("checkout")
    write_digit_images(root / "data/mine/raw")
    return root, run_pipeline(root, "export", *SMALL, "--conv", "bottleneck")


def test_every_fold_becomes_a_file_that_predicts_the_same(exported: tuple[Path, Outcome]) -> None:
    root, outcome = exported
    assert outcome.code == 0, outcome.errors
    (folder,) = (root / "submissions/mine").iterdir()
    (cache,) = (root / "data/mine/cache").iterdir()
    run, images = Run.open(folder), load_cache(cache).test.images

    for number in run.folds:
        session = onnxruntime.InferenceSession(run.fold(number) / "model.onnx")
        (logits,) = session.run(None, {"input": images.numpy()})
        with torch.inference_mode():
            expected = run.network.load(run.fold(number)).eval()(images).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_what_is_exported_is_not_exported_again(
    exported: tuple[Path, Outcome], here: Command
) -> None:
    root, _ = exported

    again = here("export", *SMALL, "--conv", "bottleneck", root=root)

    assert again.code == 0, again.errors
    assert "train       up to date" in again.output
    assert "export      up to date" in again.output


def test_a_named_run_is_exported_for_the_size_that_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predicted run may be named while the images have another SIZE."""
    own, data = write_cache(digit_images(), tmp_path / "own"), digit_images()
    larger = data.train.images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    now = write_cache(replace(data, train=replace(data.train, images=larger)), tmp_path / "now")
    run = make_run(tmp_path / "run", data, folds=1)
    write_json(run.folder / "run.json", {**run.record, "cache": own.name})
    run.fold(0).mkdir()
    model = run.network.build(torch.zeros(1), torch.ones(1))
    save_file(model.state_dict(), run.fold(0) / "weights.safetensors")
    write_manifest(run.fold(0))
    shapes = []
    monkeypatch.setattr(
        "pipeline.stages.export.export_onnx", lambda _, images, __: shapes.append(images.shape)
    )

    export(run.folder, now)

    assert shapes == [(2, 8, 8, 1)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet15", "MODEL='resnet15' is unknown; choose from"),
        ("vbnet", "MODEL='vbnet' takes volumes, not images"),
    ],
)
def test_a_network_that_classifies_no_images_is_refused_at_once(model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(Settings(model=model))


def test_a_network_that_cannot_take_the_images_is_refused_and_leaves_no_run(
    exported: tuple[Path, Outcome], here: Command
) -> None:
    root, _ = exported
    before = sorted((root / "submissions/mine").iterdir())

    outcome = here("train", *SMALL, "--model", "mnist-net", root=root)

    assert outcome.code == 2
    assert "MODEL='mnist-net' cannot take 1 x 8 x 8 images" in outcome.errors
    assert sorted((root / "submissions/mine").iterdir()) == before
