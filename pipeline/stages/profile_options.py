"""What a user chooses for a profile; it imports nothing heavy, so that parsing stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileOptions:
    """What to measure, and how.

    Args:
        models: networks by name, separated by commas or spaces.
        convs: convolutions by name, likewise; the standard one is always measured too.
        device: auto takes CUDA where there is one.
        precision: auto takes the number format that training takes on this device.
        protocol: step is a training step; published is ten forward passes in training mode, each
            with the graph of the one before still held.
        memory_format: of inputs and kernels; channels_last stands for its 3D form, too.
        rounds: every candidate is measured once per round.
        batch: inputs per step; 0 takes the model's own.
        compile: measure everything once more under torch.compile.
        json: print a list of JSON objects instead of tables.
        out: folder for the JSON file and the plot, one of each per network.
    """

    models: tuple[str, ...] = ("resnet14",)
    convs: tuple[str, ...] = ("subkernel", "channel-selection")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    protocol: Literal["step", "published"] = "step"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    rounds: int = 7
    batch: int = 0
    compile: bool = False
    json: bool = False
    out: Path = Path("submissions/studies/profile")

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds {self.rounds} measure nothing; give at least 1")
