"""What the results of the nntrain study say, in words and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from matplotlib import colormaps
from matplotlib.axes import Axes

from pipeline.studies.cells import Result
from pipeline.studies.figures import of_part, panels, png
from pipeline.studies.nntrain_rows import (
    AUGMENTED,
    PUBLISHED_MMACS,
    REGULARISED,
    RESNET,
    ROWS,
    TWINS,
)
from pipeline.studies.store import Summary, summarise

TRAINING, SUMMARY = "training", "summary"
_EVAL = "eval_accuracy"


def explain(results: Sequence[Result]) -> str:
    """Markdown paragraphs; "" without results."""
    found = {name: summarise(results, TRAINING, name, _EVAL) for name in ROWS}
    measured = {name: each for name, each in found.items() if each}
    paragraphs = [
        _published_rows(measured),
        _own_rules(measured),
        _one_cycle(measured),
        _regularised(measured),
        _size(results),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _published_rows(measured: dict[str, Summary]) -> str:
    """How many rows reach the published accuracy, and what would say that they do not."""
    gaps = {
        name: each.mean - row.published[3]
        for name, row in ROWS.items()
        if row.published and (each := measured.get(name))
    }
    if not gaps:
        return ""
    met = sum(gap >= 0 for gap in gaps.values())
    lowest, highest = (pick(gaps, key=lambda name: gaps[name]) for pick in (min, max))
    seeds = min(measured[name].n for name in gaps)
    return (
        f"{met} of {len(gaps)} rows reach the published accuracy on the test images (mean of "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}). Ours minus published goes from "
        f"{100 * gaps[lowest]:+.1f} points (`{lowest}`) to {100 * gaps[highest]:+.1f} "
        f"(`{highest}`). `train_loss` is the running loss of the last epoch; `train_accuracy` is "
        "of the training images in evaluation mode, after it. That a row is reproduced would be "
        "refuted by a mean over more seeds that is below the published value by more than twice "
        "its standard error."
    )


def _own_rules(measured: dict[str, Summary]) -> str:
    pairs = [
        f"`{own}` {_percent(measured[own])} and `{twin}` {_percent(measured[twin])}"
        for own, twin in TWINS.items()
        if own in measured and twin in measured
    ]
    if not pairs:
        return ""
    return (
        f"The study's own update rules beside torch's nearest, on the test images: "
        f"{'; '.join(pairs)}. torch's momentum is Nesterov's here, so with momentum the two are "
        "not the same rule; torch's RMSProp is not among the optimisers."
    )


def _one_cycle(measured: dict[str, Summary]) -> str:
    constant = {
        name: each
        for name, each in measured.items()
        if ROWS[name].model == ROWS["cnn-one-cycle"].model and not ROWS[name].one_cycle
    }
    if not constant or "cnn-one-cycle" not in measured:
        return ""
    best = max(constant, key=lambda name: constant[name].mean)
    gain = measured["cnn-one-cycle"].mean - constant[best].mean
    verdict = "holds here" if gain > 0 else "does not hold here"
    return (
        f"One cycle of the rate against the best constant rate (`{best}`), same network and "
        f"epochs: {100 * gain:+.1f} points. That the cycle learns more in the same time {verdict}; "
        "a constant rate that reaches the same accuracy in as many epochs would refute it."
    )


def _regularised(measured: dict[str, Summary]) -> str:
    plain, regularised, row = measured.get(AUGMENTED), measured.get(REGULARISED), ROWS[AUGMENTED]
    if not plain or not regularised or not row.published:
        return ""
    goal, added = row.published[3], ROWS[REGULARISED].training
    reached = "reaches" if regularised.mean >= goal else "misses"
    return (
        f"The residual network, {added.epochs} epochs with flips and crops, on plain test images: "
        f"{_with_spread(plain)} trained as published; {_with_spread(regularised)} with what the "
        f"study does not have, label smoothing of {added.label_smoothing}, decoupled weight decay "
        f"of {added.weight_decay} and mixup of {added.mixup} of the images, which {reached} the "
        f"published {100 * goal:.1f} %. That they help would be refuted by more seeds in which the "
        "means meet."
    )


def _size(results: Sequence[Result]) -> str:
    counted = summarise(results, SUMMARY, RESNET, "mmacs")
    by_formula = summarise(results, SUMMARY, RESNET, "mmacs_by_formula")
    if not counted or not by_formula:
        return ""
    return (
        f"The residual network takes {counted.mean:.2f} million multiply-accumulates an image; "
        f"the study's formula gives {by_formula.mean:.1f} (published: {PUBLISHED_MMACS}). It "
        "counts the 1 x 1 shortcuts at the size behind the pooling, though they are computed "
        "ahead of it, and not at all where there is no stride."
    )


def _with_spread(summary: Summary) -> str:
    spread = f" ± {100 * summary.std:.2f}" if summary.n > 1 else ""
    return f"{100 * summary.mean:.2f}{spread} % (n = {summary.n})"


def _percent(summary: Summary) -> str:
    return f"{100 * summary.mean:.1f} %"


def plots(results: Sequence[Result]) -> dict[str, bytes]:
    """accuracy.png: on the test images, beside the published, and over the seconds of training."""
    trained = of_part(results, TRAINING)
    if not trained:
        return {}
    figure, (beside, over_time) = panels("nntrain on Fashion-MNIST: test images", 2, height=5.0)
    _draw_beside_published(beside, trained)
    _draw_over_seconds(over_time, trained)
    handles = over_time.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=8)
    return {"accuracy.png": png(figure)}


def _draw_beside_published(axes: Axes, trained: Sequence[Result]) -> None:
    """A line per row; every seed is a dot."""
    names = [name for name in ROWS if any(result["variant"] == name for result in trained)]
    for result in trained:
        place = names.index(result["variant"])
        axes.plot(result.figures[_EVAL], place, "o", color=_colour(result["variant"]), alpha=0.7)
    published = [(row.published[3], names.index(n)) for n in names if (row := ROWS[n]).published]
    for accuracy, place in published:
        axes.plot(accuracy, place, "D", color="0.3", fillstyle="none", label="published")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy")
    axes.legend(*(each[:1] for each in axes.get_legend_handles_labels()))


def _draw_over_seconds(axes: Axes, trained: Sequence[Result]) -> None:
    """The first seed's accuracy after every epoch; time has a logarithmic axis."""
    first = min(result["seed"] for result in trained)
    by_name = {result["variant"]: result for result in trained if result["seed"] == first}
    for name in [name for name in ROWS if name in by_name]:
        seconds = list(accumulate(by_name[name].curves["seconds"]))
        accuracy = by_name[name].curves["valid_accuracy"]
        axes.plot(seconds, accuracy, ".-", color=_colour(name), label=name)
    axes.set(xscale="log", xlabel="seconds of training and validation", ylabel="accuracy")


def _colour(name: str) -> tuple[float, ...]:
    return colormaps["tab20"](list(ROWS).index(name))
