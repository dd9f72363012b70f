"""Networks as ONNX files, for runtimes without torch."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.artifacts import write_whole
from pipeline.errors import ConfigError

INPUT, OUTPUT = "input", "output"
_PACKAGES = ("onnx", "onnxscript")


def check_onnx() -> None:
    """Make sure that the packages which write ONNX are there.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"writing ONNX needs {' and '.join(missing)}; "
            "install the optional extra: pip install -e '.[onnx]'"
        )


def export_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """Write `model` in eval mode to `path`, weights included; an older file is replaced whole.

    The file takes one tensor, `input`, like `example` but with any batch size, and returns
    `output`. Parametrised convolutions are better fused before: see `fuse`.

    Args:
        example: an input of two or more; torch takes a batch of one for a constant.

    Raises:
        ConfigError: the optional packages are missing.
        StorageError: the file cannot be written.
    """
    check_onnx()
    program = torch.onnx.export(
        copy.deepcopy(model).eval(),
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    write_whole(path, program.model_proto.SerializeToString())
