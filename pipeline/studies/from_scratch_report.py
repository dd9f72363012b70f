"""What the results of the study of the convolution from scratch say, in words and as plots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.axes import Axes

from pipeline.studies.cells import Result
from pipeline.studies.figures import of_part, panels, png
from pipeline.studies.photo import draw_gallery
from pipeline.studies.store import summarise

PHOTO, MNIST, STEP = "photo", "mnist", "mnist-step"
_WAYS = ("library", "shifted")
_PUBLISHED_RATIO = 2.0


def explain(results: Sequence[Result]) -> str:
    """Markdown paragraphs; "" without results."""
    paragraphs = [_photo(results), _same_curve(results), _speed(results)]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _photo(results: Sequence[Result]) -> str:
    found = of_part(results, PHOTO)
    if not found:
        return ""
    figures, setup = found[0].figures, found[0]["setup"]
    height, width = setup["photo"][2:]
    rows, columns = setup["crop_of_loops"][2:]
    return (
        f"Photo of {width} x {height} pixels, a 3 x 3 filter for each colour. The loops ran on "
        f"{columns} x {rows} pixels; for the whole photo they would take "
        f"{figures['loops_scaled_s']:,.0f} s, {figures['loops_to_library']:,.0f} times as long as "
        f"the library ({figures['library_ms']:.2f} ms; published 0.4 to 1.2). Shifted slices take "
        f"{figures['shifted_ms']:.2f} ms (published 0.77 to 0.84), "
        f"{figures['shifted_to_library']:.1f} times the library. The three images differ by at "
        f"most {figures['largest_difference']:.1e}; a filter for which they differ by more than "
        "rounding would refute that they are one operation."
    )


def pairs_by_seed(results: Sequence[Result]) -> dict[int, tuple[Result, Result]]:
    """Library and shifted training of every seed that has both, and their steps."""
    found = {(result["variant"], result["seed"]): result for result in of_part(results, MNIST)}
    seeds = sorted({seed for _, seed in found})
    return {
        seed: (found["library", seed], found["shifted", seed])
        for seed in seeds
        if all((way, seed) in found and found[way, seed].curves["step_loss"] for way in _WAYS)
    }


def largest_difference(library: Result, shifted: Result) -> float:
    """Of the loss of any step that both have noted; the last steps are the same ones."""
    ours, theirs = library.curves["step_loss"], shifted.curves["step_loss"]
    both = min(len(ours), len(theirs))
    pairs = zip(ours[len(ours) - both :], theirs[len(theirs) - both :], strict=True)
    return max(abs(own - other) for own, other in pairs)


def _same_curve(results: Sequence[Result]) -> str:
    pairs = pairs_by_seed(results)
    if not pairs:
        return ""
    loss = max(largest_difference(*pair) for pair in pairs.values())
    accuracy = max(
        abs(own - other)
        for library, shifted in pairs.values()
        for own, other in zip(
            library.curves["valid_accuracy"], shifted.curves["valid_accuracy"], strict=True
        )
    )
    steps = min(len(way.curves["step_loss"]) for pair in pairs.values() for way in pair)
    return (
        f"The same training with the library's convolution and with shifted slices: over {steps} "
        f"steps the loss of a batch differs by at most {loss:.1e}, accuracy on the test images by "
        f"at most {100 * accuracy:.2f} points ({_of_seeds(len(pairs))}). Rounding in fp32 is what "
        "parts them, and training makes it grow. A difference that is there from the first step, "
        "or one that leads to another accuracy, would refute that the curves are the same."
    )


def _speed(results: Sequence[Result]) -> str:
    ratio = summarise(results, STEP, "shifted", "seconds_ratio")
    if ratio is None:
        return ""
    verdict = "holds" if ratio.mean <= _PUBLISHED_RATIO else "does not hold"
    text = (
        f"A training step with shifted slices takes {ratio.mean:.2f} times the library's in its "
        f"faster memory format; that it is about {_PUBLISHED_RATIO:.0f} times {verdict} here"
    )
    pairs = pairs_by_seed(results).values()
    seconds = [
        shifted.figures["total_s"] / library.figures["total_s"] for library, shifted in pairs
    ]
    if seconds:
        mean = sum(seconds) / len(seconds)
        text += f"; whole trainings, one after the other and with validation: {mean:.2f} times"
    limit = f"{_PUBLISHED_RATIO:.0f}"
    return f"{text}. A machine or a batch with a ratio above {limit} refutes it there."


def _of_seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def plots(results: Sequence[Result]) -> dict[str, bytes]:
    """gallery.png: the filtered photo; training.png: loss and accuracy over steps and seconds."""
    drawn: dict[str, bytes] = {}
    if of_part(results, PHOTO):
        drawn["gallery.png"] = draw_gallery()
    pairs = pairs_by_seed(results)
    if pairs:
        drawn["training.png"] = _draw_training(pairs[min(pairs)])
    return drawn


def _draw_training(pair: tuple[Result, Result]) -> bytes:
    title = "MNIST: the library's convolution and shifted slices, same seed"
    figure, axes = panels(title, 4, height=3.6)
    for style, name, result in zip(("-", "--"), _WAYS, pair, strict=True):
        _draw_one(axes, result, name, style)
    for each, label in zip(axes, ("step", "seconds", "step", "seconds"), strict=True):
        each.set_xlabel(label)
        each.legend()
    for each in axes[:2]:
        each.set_ylabel("loss of a batch")
    for each in axes[2:]:
        each.set_ylabel("accuracy on the test images")
    return png(figure)


def _draw_one(axes: Sequence[Axes], result: Result, name: str, style: str) -> None:
    """Loss over steps and over seconds, then accuracy over both; of losses the last are there."""
    losses, accuracies = result.curves["step_loss"], result.curves["valid_accuracy"]
    ends = list(accumulate(result.curves["seconds"]))
    last = result["setup"].get("steps", len(losses))
    per_epoch = last / len(ends)
    steps = range(last - len(losses) + 1, last + 1)
    seconds = [_at(ends, step / per_epoch) for step in steps]
    axes[0].plot(steps, losses, style, label=name)
    axes[1].plot(seconds, losses, style, label=name)
    epochs = range(1, len(ends) + 1)
    axes[2].plot([epoch * per_epoch for epoch in epochs], accuracies, f"o{style}", label=name)
    axes[3].plot(ends, accuracies, f"o{style}", label=name)


def _at(ends: Sequence[float], epochs: float) -> float:
    """The second at which so many epochs were done, if steps within one take equally long."""
    whole = min(int(epochs), len(ends) - 1)
    begin = ends[whole - 1] if whole else 0.0
    return begin + (epochs - whole) * (ends[whole] - begin)
