"""What a study is made of, and what is known from the documents it repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.stages.settings import Settings
from pipeline.training.deadline import Deadline

SCALES = ("smoke", "cpu", "gpu")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Where cells are measured.

    Attributes:
        settings: of the command: the host, the folder that holds data/ and submissions/.
        scale: how much work: smoke (seconds), cpu (an hour a study), gpu (the published sizes).
        deadline: when to stop; what trains keeps its state in `scratch`.
        scratch: a folder for states and submissions, not committed.
    """

    settings: Settings
    scale: str
    deadline: Deadline
    scratch: Path

    def pick(self, *, smoke: Value, cpu: Value, gpu: Value) -> Value:
        """The value for this bench's scale."""
        return {"smoke": smoke, "cpu": cpu, "gpu": gpu}[self.scale]

    def state_of(self, cell: Cell) -> Path:
        """What a stopped cell's training goes on with; kept until the cell has its result."""
        return self.scratch / cell.study / self.scale / f"{cell.name}.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a cell found.

    Attributes:
        figures: numbers by name; names end in their unit where they have one.
        curves: lists of numbers by name, such as a loss per epoch.
        setup: how it was measured: recipe, sizes, execution.
        n: repetitions within the cell that each figure is a median of.
        spread: by figure, the lowest and highest of them.
    """

    figures: dict[str, float]
    curves: dict[str, list[float]] = field(default_factory=dict)
    setup: dict[str, Any] = field(default_factory=dict)
    n: int = 1
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """A cell's file, read back."""

    path: Path
    values: dict[str, Any]

    @property
    def figures(self) -> dict[str, float]:
        """Numbers by name."""
        return dict(self.values["figures"])

    @property
    def curves(self) -> dict[str, list[float]]:
        """Lists of numbers by name."""
        return dict(self.values["curves"])

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One part of a study for one variant and seed."""

    study: str
    part: str
    variant: str
    seed: int
    measure: Callable[[Bench, Cell], Outcome]

    @property
    def name(self) -> str:
        """As its file is called."""
        return f"{self.part}-{self.variant}-seed{self.seed}".replace("/", "-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A figure of a study's document; ours misses it where it is on the wrong side.

    Attributes:
        better: "high" or "low" where one side is better; "same" for what must be met exactly;
            "none" where the machines differ too much for a verdict.
    """

    part: str
    variant: str
    figure: str
    value: float
    better: str = "high"

    def is_met(self, ours: float) -> bool | None:
        """Whether `ours` is at least as good; None where no side is better."""
        verdicts = {
            "high": ours >= self.value,
            "low": ours <= self.value,
            "same": ours == self.value,
        }
        return verdicts.get(self.better)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A published study: what is measured, and what its document says.

    Attributes:
        cells: of a scale and a seed, in the order in which they are best measured.
        title: a line for the results page.
        published: figures of the document.
        explain: Markdown that says what the results mean; empty without results.
        plots: PNG files by name.
    """

    name: str
    title: str
    cells: Callable[[str, int], Sequence[Cell]]
    published: Sequence[Published]
    explain: Callable[[Sequence[Result]], str]
    plots: Callable[[Sequence[Result]], dict[str, bytes]]
