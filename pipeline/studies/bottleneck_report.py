"""What the results of the study of small convolutions say, in words and as a plot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.axes import Axes

from pipeline.studies.cells import Result
from pipeline.studies.figures import of_part, panels, png
from pipeline.studies.store import summarise

SIZE, LAYER, STEP, PASSES, NORMS = "size", "layer", "vbnet-step", "vbnet-published", "norms"
_STANDARD = "subkernel"
_PUBLISHED_CHAIN = "factored"
_PUBLISHED_SECONDS, _PUBLISHED_MEMORY = 16.89 / 10.63, 4408 / 3818
_PUBLISHED_GMACS = {"vbnet/subkernel": 191.78, "vbnet/bottleneck": 16.05}
_HOW = {
    "factored": "the chain of small convolutions, which keeps every inner tensor",
    "recomputed": "the chain that keeps its input alone and computes the inner tensors again",
    "folded": "one convolution a layer with the kernel that the chain composes to",
    "auto": "for every layer the execution that was fastest here, within the standard's memory",
}
Row = dict[str, Any]


def explain(results: Sequence[Result]) -> str:
    """Markdown paragraphs and a table; "" without results."""
    parts = [_table(results), _sizes(results), bottleneck_answer(results), _norms(results)]
    return "\n\n".join(part for part in parts if part)


def rows_of(results: Sequence[Result], part: str) -> list[Row]:
    """What the profile found for a part, without the candidates that failed."""
    rows = [row for result in of_part(results, part) for row in result["setup"]["rows"]]
    return [row for row in rows if row["ratio_to_standard"] is not None]


def _table(results: Sequence[Result]) -> str:
    lines = [
        "| measured | convolution, execution | time | memory | inference time | and memory |",
        "|" + " --- |" * 6,
    ]
    for part in (LAYER, STEP, PASSES):
        for row in rows_of(results, part):
            if row["conv"] != _STANDARD:
                ratios = (
                    row["ratio_to_standard"],
                    row["memory_ratio_to_standard"],
                    row["inference_ratio"],
                    row["inference_memory_ratio"],
                )
                name = f"{row['conv']} {row['execution']}"
                lines.append("| " + " | ".join([part, name, *(f"{r:.2f}" for r in ratios)]) + " |")
    if len(lines) == 2:
        return ""
    return "All as ratios to the standard convolution, of the same run:\n\n" + "\n".join(lines)


def _sizes(results: Sequence[Result]) -> str:
    texts = []
    for variant, published in _PUBLISHED_GMACS.items():
        ours = summarise(results, SIZE, variant, "gmacs")
        if ours:
            gap = 100 * (ours.mean / published - 1)
            texts.append(f"`{variant}` {ours.mean:.2f} (published {published}, {gap:+.1f} %)")
    if not texts:
        return ""
    return (
        f"Billions of multiply-accumulates of a batch of six: {', '.join(texts)}. The published "
        'numbers are called "GFLOPs" and come from another counter.'
    )


def bottleneck_answer(results: Sequence[Result]) -> str:
    """The study's open question answered by a training step: faster, and lighter, by what?

    Markdown; "" where no step was measured.
    """
    rows = {row["execution"]: row for row in rows_of(results, STEP) if row["conv"] != _STANDARD}
    if _PUBLISHED_CHAIN not in rows:
        return ""
    chain = rows[_PUBLISHED_CHAIN]
    fastest = min(rows.values(), key=lambda row: row["ratio_to_standard"])
    lightest = min(rows.values(), key=lambda row: row["memory_ratio_to_standard"])
    sentences = [
        "**How to make it faster and lighter?** In a training step of VBNet the published chain "
        f"takes {chain['ratio_to_standard']:.2f} times the standard's time and "
        f"{chain['memory_ratio_to_standard']:.2f} times its memory.",
        f"The fastest is `{fastest['execution']}` ({_HOW[fastest['execution']]}): "
        f"{_costs(fastest)}, so {_by(chain, fastest, 'step_ms')} the chain's time.",
        f"The lightest is `{lightest['execution']}` ({_HOW[lightest['execution']]}): "
        f"{_costs(lightest)}, so {_by(chain, lightest, 'peak_bytes')} the chain's memory.",
        _inference(rows.get("auto", fastest)),
        _refutation(rows.values()),
    ]
    return " ".join(sentences)


def _costs(row: Row) -> str:
    return (
        f"{row['ratio_to_standard']:.2f} times the standard's time and "
        f"{row['memory_ratio_to_standard']:.2f} times its memory"
    )


def _by(chain: Row, own: Row, cost: str) -> str:
    return f"{own[cost] / chain[cost]:.2f} times"


def _inference(row: Row) -> str:
    return (
        "For inference every execution becomes the same network, one convolution a layer with its "
        f"norm folded in: {row['inference_ratio']:.2f} times the standard's time and "
        f"{row['inference_memory_ratio']:.2f} times its memory."
    )


def _refutation(rows: Collection[Row]) -> str:
    """What was found on this machine, and what would say otherwise."""
    both = [
        f"`{row['execution']}`"
        for row in rows
        if row["ratio_to_standard"] < 1 and row["memory_ratio_to_standard"] <= 1
    ]
    found = f"{', '.join(both)}" if both else "none of the executions"
    return (
        f"Faster than the standard convolution and no heavier on this machine: {found}. Another "
        "measurement of the step that finds others would refute it."
    )


def _norms(results: Sequence[Result]) -> str:
    texts = []
    for result in of_part(results, NORMS):
        conv = result["variant"]
        time, memory = (
            result.figures.get(f"{conv}_group_{cost}_ratio") for cost in ("step", "peak")
        )
        if time is not None and memory is not None:
            texts.append(f"`{conv}` {time:.2f} times the time, {memory:.2f} times the memory")
    if not texts:
        return ""
    return f"Group norm in place of batch norm, a training step of VBNet: {'; '.join(texts)}."


def plots(results: Sequence[Result]) -> dict[str, bytes]:
    """costs.png: time against memory, as ratios to the standard convolution."""
    shown = {
        "one layer, training step": rows_of(results, LAYER),
        "VBNet, training step": rows_of(results, STEP),
        "VBNet, ten forward passes": rows_of(results, PASSES),
    }
    if not any(shown.values()):
        return {}
    figure, axes = panels("Ratios to the standard convolution", len(shown), height=4.4)
    for each, (title, rows) in zip(axes, shown.items(), strict=True):
        each.set_title(title, fontsize=9)
        _draw(each, [row for row in rows if row["conv"] != _STANDARD])
    axes[-1].plot(_PUBLISHED_SECONDS, _PUBLISHED_MEMORY, "kD", fillstyle="none", label="published")
    for each in axes:
        each.legend(fontsize=7)
    return {"costs.png": png(figure)}


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    """One colour per convolution, one marker per execution."""
    convs = list(dict.fromkeys(row["conv"] for row in rows))
    ways = list(dict.fromkeys(row["execution"] for row in rows))
    for row in rows:
        axes.plot(
            row["ratio_to_standard"],
            row["memory_ratio_to_standard"],
            "os^vD"[ways.index(row["execution"]) % 5],
            color=f"C{convs.index(row['conv']) % 10}",
            label=f"{row['conv']} {row['execution']}",
        )
    axes.plot(1, 1, "k+", label="standard")
    axes.set(xlabel="time", ylabel="peak memory")
