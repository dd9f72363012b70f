"""export: the trained folds of a run as ONNX files."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.artifacts import verify_manifest
from pipeline.data.cache import load_cache
from pipeline.models.fuse import fuse
from pipeline.models.onnx import export_onnx
from pipeline.stages.console import say
from pipeline.training.run import Run

ONNX_MODEL = "model.onnx"


def export(folder: Path, cache: Path) -> list[Path]:
    """Write fold*/model.onnx for every fold of the run in `folder`, fused.

    Each takes uint8 images [N, H, W, C] of the size that the run was trained on, whose cache lies
    beside `cache`, and returns logits [N, classes].

    Raises:
        ConfigError: the optional packages are missing, or the run was made from others.
        DataError: the run's cache is gone, or a fold is damaged.
    """
    run = Run.open(folder)
    network = run.network
    paths = [run.fold(number) / ONNX_MODEL for number in run.folds]
    missing = [number for number in run.folds if not paths[number].exists()]
    if not missing:
        say("export", f"up to date: {folder}/fold*/{ONNX_MODEL}")
        return paths
    trained_on = cache.with_name(run.record["cache"])
    images = torch.zeros_like(load_cache(trained_on).train.images[:2])
    for number in missing:
        verify_manifest(run.fold(number))
        export_onnx(fuse(network.load(run.fold(number))), images, paths[number])
    say("export", f"done: {folder}/fold*/{ONNX_MODEL} ({len(missing)} written)")
    return paths
