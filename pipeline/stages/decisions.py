"""Where and how a run computes: decided when it begins, and again where that does not hold."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from pipeline.artifacts import write_json
from pipeline.convs import KernelConv, choose_executions, set_execution
from pipeline.data.cache import TensorCache
from pipeline.stages.console import say
from pipeline.training.augment import shrink
from pipeline.training.execution import (
    Execution,
    choose_execution,
    for_group,
    for_network,
    with_convs,
)
from pipeline.training.memory import too_little_memory
from pipeline.training.run import RECORD, Run


def make_executable(run: Run, data: TensorCache, launch: str = "auto") -> None:
    """Take the decisions of a run that has folds to train, unless they are taken and hold here.

    `launch` says where they train, as in the settings.
    """
    if not run.missing_folds():
        return
    before = execution = run.execution if "execution" in run.record else None
    problem = _problem(before, launch) if before else None
    if problem:
        say("train", f"{problem}: deciding anew")
    if execution is None or problem:
        execution = decide(run, data)
    if launch == "ddp":
        execution = for_group(execution)
    if execution != before:
        run.record["execution"] = asdict(execution)
        write_json(run.folder / RECORD, run.record)


def _problem(execution: Execution, launch: str) -> str | None:
    """Why the run cannot go on as it was decided."""
    if execution.together and launch != "ddp":
        return "what was decided is for LAUNCH=ddp"
    return execution.missing()


def decide(run: Run, data: TensorCache) -> Execution:
    """Where and how the run computes, with its convolutions' executions."""
    images, count = data.train.images, len(run.folds)
    pixels = run.recipe.pixels(_trained_on(run, images), *images.shape[1:3])
    asked = dict(run.record["asked"])
    convolutions = asked.pop("convolutions")
    execution = choose_execution(pixels=pixels * count, asked=asked)
    channels = images.shape[-1]
    model = run.network.build(torch.zeros(channels), torch.ones(channels)).to(execution.device)
    smallest = shrink(images[:2], run.recipe.side_for(0, min(images.shape[1:3])))
    execution = for_network(execution, model, smallest, asked)
    convs = _decide_convs(convolutions, run, execution, model, images)
    return with_convs(execution, convs, asked=convolutions != "auto")


def _decide_convs(
    wanted: str, run: Run, execution: Execution, model: nn.Module, images: Tensor
) -> dict[str, str]:
    """Each convolution's execution: what was asked for, or the fastest at its own shape."""
    execution.prepare_process()
    set_execution(model, wanted)
    if wanted != "auto":
        return {
            path: wanted for path, part in model.named_modules() if isinstance(part, KernelConv)
        }
    batch = run.recipe.batch_for(_trained_on(run, images))
    return _fastest(execution, model, images[: min(batch, execution.micro_batch or batch)])


def _trained_on(run: Run, images: Tensor) -> int:
    """How many of the images a fold trains on."""
    count = len(run.folds)
    return len(images) * (count - 1) // count


def _fastest(execution: Execution, model: nn.Module, images: Tensor) -> dict[str, str]:
    """Each convolution's fastest execution, timed with fewer images where memory runs out.

    Raises:
        ConfigError: one image is too many for the memory.
    """
    try:
        while True:
            try:
                with execution.autocast():
                    return choose_executions(model, images.to(execution.device))
            except torch.OutOfMemoryError as err:
                if len(images) == 1:
                    raise too_little_memory(images, 1) from err
                images = images[: len(images) // 2]
    finally:
        if execution.device == "cuda":  # processes that train there need what is cached here
            torch.cuda.empty_cache()
