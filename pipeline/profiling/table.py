"""The results for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipeline.profiling.roofline import Roofline
from pipeline.profiling.rows import Quartiles, Row

_WIDTH_OF_A_FILE = 240
_MISSING = "-"
_HEADINGS = (
    "parameters",
    "model MB",
    "GMAC",
    "forward ms",
    "backward ms",
    "step ms",
    "ratio",
    "peak MB",
    "ratio",
    "kept MB",
    "infer ms",
    "ratio",
    "infer MB",
    "ratio",
    "of roofline",
)


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a line per candidate, times and memory with their ratios beside them."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("convolution, execution", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, *_cells(row))
    console = _console()
    console.print(table)
    for row in rows:
        if row.failure is not None:
            console.print(f"{row.name} failed: {row.failure}", markup=False)
        elif row.execution == "auto" and row.chosen:
            chosen = ", ".join(f"{count} {name}" for name, count in row.chosen.items())
            console.print(f"{row.name} chose {chosen}", markup=False)


def print_roofline(roofline: Roofline) -> None:
    """Print the machine's measured rates."""
    products = f"fp32 {2 * roofline.fp32_macs_per_second / 1e9:,.0f} GFLOP/s"
    if roofline.precision != "fp32":
        rate = 2 * roofline.macs_per_second / 1e9
        products += f", {roofline.precision} {rate:,.0f} GFLOP/s"
    _console().print(
        f"machine: matrix products {products}; copying {roofline.bytes_per_second / 1e9:,.1f} GB/s "
        "(read and written)",
        markup=False,
        highlight=False,
    )


def _console() -> Console:
    console = Console()
    # A file or a pipe has no width; folded values would be hard to search.
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _number(row.parameters, ","),
        _number(row.model_bytes, ",.2f", 1e-6),
        _number(row.macs, ",.3f", 1e-9),
        _number(row.forward_ms, ",.1f"),
        _number(row.backward_ms, ",.1f"),
        _number(row.step_ms, ",.1f") + _spread(row.step_ms_quartiles, 1),
        _number(row.ratio_to_standard, ".2f") + _spread(row.ratio_quartiles, 2),
        _number(row.peak_bytes, ",.1f", 1e-6),
        _number(row.memory_ratio_to_standard, ".2f"),
        _number(row.kept_bytes, ",.1f", 1e-6),
        _number(row.inference_ms, ",.1f"),
        _number(row.inference_ratio, ".2f"),
        _number(row.inference_peak_bytes, ",.1f", 1e-6),
        _number(row.inference_memory_ratio, ".2f"),
        _number(row.roofline_share, ".0%"),
    )


def _number(value: float | None, form: str, scale: float = 1) -> str:
    if value is None:
        return _MISSING
    return format(value if scale == 1 else value * scale, form)


def _spread(quartiles: Quartiles | None, digits: int) -> str:
    if quartiles is None:
        return ""
    low, high = quartiles
    return f" ({low:.{digits}f}-{high:.{digits}f})"
