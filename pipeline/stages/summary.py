"""summary: what each layer of a network takes, as a table or as JSON."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from pipeline.profiling.summary import NOTE, Layer, Summary, summarise

_WIDTH_OF_A_FILE = 160


def print_summary(model: str, conv: str, batch: int, *, as_json: bool) -> None:
    """Print the layers of the network and their totals; as JSON, one object and nothing else.

    Raises:
        ConfigError: a name is unknown, or the batch is empty.
    """
    summary = summarise(model, conv, batch)
    if as_json:
        print(json.dumps(summary.to_json(), indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_A_FILE)  # a file or a pipe has none
    console.print(f"{model}, {conv}, input {_shape(summary.input)}", highlight=False)
    console.print(_table(summary))
    console.print(NOTE, highlight=False)


def _table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("layer", "total", overflow="fold")
    table.add_column("kind")
    for heading in ("input", "output"):
        table.add_column(heading, overflow="fold")
    for heading, total in (
        ("parameters", summary.parameters),
        ("MACs", summary.macs),
        ("MACs folded", summary.macs_folded),
    ):
        table.add_column(heading, f"{total:,}", justify="right", no_wrap=True)
    for layer in summary.layers:
        table.add_row(*_row(layer))
    return table


def _row(layer: Layer) -> tuple[str, ...]:
    counts = (layer.parameters, layer.macs, layer.macs_folded)
    return (
        layer.name or "(network)",
        layer.kind,
        _shape(layer.input),
        _shape(layer.output),
        *(f"{count:,}" if count else "" for count in counts),
    )


def _shape(sides: list[int]) -> str:
    return " x ".join(str(side) for side in sides)
