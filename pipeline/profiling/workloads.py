"""The networks of this project as workloads, at the size that they were published with."""

from __future__ import annotations

from functools import partial

from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.registry import example_classes, example_shape, make_model
from pipeline.profiling.subjects import Workload

_DROPOUT = 0.1  # any probability above zero costs the same
_DEFAULT_BATCH = 8
# As published; on the CPU less where a step would take a minute.
_BATCHES = {
    "resnet14": 256,
    "mnist-net": 1000,
    "resnet-nntrain": 1024,
    "nntrain-cnn": 1024,
    "nntrain-cnn-deep": 1024,
    "vbnet": 6,
    "conv-layer3d": 6,
}
_CPU_BATCHES = {"vbnet": 1, "resnet-nntrain": 256}
_LAYERS = {"conv-layer3d"}


def make_workload(model: str, batch: int, device: str) -> Workload:
    """The network `model` on inputs of its published shape.

    Args:
        batch: 0 takes the published size, or less on the CPU where a step would take too long.

    Raises:
        ConfigError: no network has that name, or the batch is negative.
    """
    if batch < 0:
        raise ConfigError(f"batch {batch} is negative; give a size, or 0 for the model's own")
    shape = example_shape(model)
    return Workload(
        name=model,
        build=partial(_build, model, shape[0], example_classes(model)),
        shape=shape,
        batch=batch or _default_batch(model, device),
        input_gradient=model in _LAYERS,
    )


def _default_batch(model: str, device: str) -> int:
    published = _BATCHES.get(model, _DEFAULT_BATCH)
    return published if device == "cuda" else _CPU_BATCHES.get(model, published)


def _build(model: str, channels: int, classes: int, conv: str) -> nn.Module:
    return make_model(model, conv, channels, classes, _DROPOUT)
