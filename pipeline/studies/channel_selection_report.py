"""What the channel-selection study found, in words and plots made from its results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

from matplotlib.axes import Axes

from pipeline.studies.cells import Result
from pipeline.studies.drawing import draw_convolutions
from pipeline.studies.figures import of_part, panels, png
from pipeline.studies.overfitting import NETWORKS
from pipeline.studies.store import Summary, summarise

_TEST_IMAGES = 2100  # the private part of the rebuilt competition's 3,000
_BY_HEART = 0.99
# Of a train loss: less is rounding and the number of epochs.
_LEARNT = 1e-4


def explain(results: Sequence[Result]) -> str:
    """The gap between the two variants, and the answer to whether the smaller one can overfit."""
    return "\n\n".join(text for text in (_gap(results), _overfitting(results)) if text)


def _gap(results: Sequence[Result]) -> str:
    scores = {
        conv: {
            result["seed"]: result.figures["private"]
            for result in results
            if result["part"] == "our-recipe"
            and result["variant"] == conv
            and "private" in result.figures  # a host may keep it to itself
        }
        for conv in ("subkernel", "channel-selection")
    }
    seeds = sorted(set(scores["subkernel"]) & set(scores["channel-selection"]))
    if not seeds:
        return ""
    gaps = [scores["subkernel"][seed] - scores["channel-selection"][seed] for seed in seeds]
    error = _gap_error(gaps, mean(scores["subkernel"].values()))
    verdict = "more than chance would show" if abs(mean(gaps)) > 2 * error else "within chance"
    return (
        "**How far apart are the two?** With our recipe the standard net's private score is "
        f"{100 * mean(gaps):+.2f} points above channel selection's (n = {len(seeds)} seeds, "
        f"standard error {100 * error:.2f}), which is {verdict}. The published gap is +2.64."
    )


def _gap_error(gaps: Sequence[float], accuracy: float) -> float:
    """Standard error of the mean gap: from the seeds, or the test images if that is larger.

    All seeds see the same test images, so their share does not shrink with more seeds. Both nets
    see them, too, and err on many of the same: taken as independent, the share is an upper bound.
    """
    of_seeds = stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    return max(of_seeds, math.sqrt(2 * accuracy * (1 - accuracy) / _TEST_IMAGES))


def _overfitting(results: Sequence[Result]) -> str:
    losses = {name: _of(results, name, "final_train_loss") for name in NETWORKS}
    right = {name: _of(results, name, "final_train_accuracy") for name in NETWORKS}
    found = {name: loss for name, loss in losses.items() if loss is not None}
    if len(found) < len(NETWORKS):
        return ""
    reached = ", ".join(
        f"{name} {found[name]} ({100 * each.mean:.1f} % right)"
        for name, each in right.items()
        if each is not None
    )
    return "\n\n".join(
        [
            f"**Can channel selection learn the images by heart?** {_by_heart(right)} Without "
            f"augmentation, weight decay, dropout or smoothing, the loss on the training images "
            f"ends at: {reached}.",
            _kernel_or_size({name: each.mean for name, each in found.items()}),
        ]
    )


def _by_heart(right: dict[str, Summary | None]) -> str:
    own = right["channel-selection"]
    assert own is not None
    if own.mean >= _BY_HEART:
        return f"Yes: {100 * own.mean:.1f} % of the 9,600 training images of a fold are right."
    return (
        f"Not in this many epochs: {100 * own.mean:.1f} % of the 9,600 training images of a fold "
        "are right."
    )


def _kernel_or_size(losses: dict[str, float]) -> str:
    """Two effects of a two by two design, as factors of the train loss."""
    if max(losses.values()) < _LEARNT:
        return (
            "**Is it the kernel or the size?** Neither: each of the four networks learns every "
            f"image, and how far below {_LEARNT} their losses end says nothing any more. It would "
            "be refuted by more images that one of them cannot learn."
        )

    def factor(above: str, below: str) -> float:
        return math.log(losses[above] / losses[below])

    kernel = factor("channel-selection", "subkernel-narrow") + factor(
        "channel-selection-wide", "subkernel"
    )
    size = factor("subkernel-narrow", "subkernel") + factor(
        "channel-selection", "channel-selection-wide"
    )
    by_kernel, by_size = math.exp(kernel / 2), math.exp(size / 2)
    cause = "the number of parameters" if by_size > by_kernel else "the rank-1 kernel"
    return (
        f"**Is it the kernel or the size?** More of it is {cause}. At equal numbers of parameters "
        f"a rank-1 kernel multiplies the train loss by {by_kernel:.2f}; about 6.4 times fewer "
        f"parameters, with the same kind of kernel, multiply it by {by_size:.2f} (each a mean over "
        "both levels of the other). It would be refuted by a channel-selection net of 175,000 "
        "parameters whose loss stops where the one of 27,000 does (then it is the kernel), or a "
        "standard net of 27,000 that reaches what the one of 175,000 does (then it is not the "
        "size); or by other results with a longer training."
    )


def _of(results: Sequence[Result], variant: str, figure: str) -> Summary | None:
    return summarise(results, "overfitting", variant, figure)


def plots(results: Sequence[Result]) -> dict[str, bytes]:
    """What each variant computes, the losses by epoch, and the four nets that may overfit."""
    drawn = {"convolutions.png": draw_convolutions()}
    for part, title in (
        ("published-recipe", "train (solid) and validation loss, published recipe"),
        ("overfitting", "train (solid) and validation loss without regularisation"),
    ):
        found = of_part(results, part)
        if found:
            figure, (axes,) = panels(title, 1)
            _losses(axes, found)
            drawn[f"{part}.png"] = png(figure)
    return drawn


def _losses(axes: Axes, results: Sequence[Result]) -> None:
    """A colour a variant, a line a seed."""
    variants = list(dict.fromkeys(result["variant"] for result in results))
    for result in results:
        place = variants.index(result["variant"])
        label = result["variant"] if _is_first(result, results) else None
        curves = result.curves
        axes.plot(curves["train_loss"], color=f"C{place}", lw=1, label=label)
        axes.plot(curves["valid_loss"], color=f"C{place}", lw=1, ls="--")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend()


def _is_first(result: Result, results: Sequence[Result]) -> bool:
    return result is next(each for each in results if each["variant"] == result["variant"])
