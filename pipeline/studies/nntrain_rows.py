"""The rows of the study of accelerated optimisation: what is trained, and what was published.

Its update rules are not torch's, and its learning rates belong to them; beside the rows that use
them stands torch's nearest rule. torch's SGD is here with Nesterov's momentum only, and there is
no torch RMSProp among the optimisers: that row stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.training.recipes import Recipe
from pipeline.training.schedules import ONE_CYCLE

RESNET = "resnet-nntrain"
_BATCH = 1024
_ONE_PIXEL = 1 / 28
# torch's default share of a one-cycle schedule that rises.
_RISE = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the study's table: what is trained, and what was published of it.

    `published` holds train loss and accuracy, evaluation loss and accuracy; what the study does
    not have, torch's counterparts of its rules and a regularised network, has none.
    """

    model: str
    training: Recipe
    published: tuple[float, float, float, float] | None = None

    def recipe(self, epochs: int) -> Recipe:
        """What is trained, in so many epochs."""
        return replace(self.training, epochs=epochs)

    @property
    def augmented(self) -> bool:
        """Whether images are flipped and cropped."""
        return self.training.max_shift > 0

    @property
    def one_cycle(self) -> bool:
        """Whether the rate rises and falls once."""
        return self.training.schedule == ONE_CYCLE


def _study(
    optimizer: str,
    learning_rate: float,
    *,
    epochs: int = 5,
    one_cycle: bool = False,
    augmented: bool = False,
) -> Recipe:
    """Without what the study does not have: weight decay, label smoothing, dropout."""
    return Recipe(
        epochs=epochs,
        batch_size=_BATCH,
        optimizer=optimizer,
        learning_rate=learning_rate,
        momentum=0.9,
        weight_decay=0.0,
        schedule=ONE_CYCLE if one_cycle else "constant",
        warmup=_RISE if one_cycle else 0.0,
        label_smoothing=0.0,
        dropout=0.0,
        max_shift=_ONE_PIXEL if augmented else 0.0,
    )


AUGMENTED, REGULARISED = "resnet-one-cycle-augmented", "resnet-one-cycle-regularised"
_LONGEST = _study("adam", 1e-2, epochs=20, one_cycle=True, augmented=True)
_CNN, _DEEP_CNN = "nntrain-cnn", "nntrain-cnn-deep"
# A rate of 0.15 moves torch's momentum, a sum, as far as 1.5 moves the study's average.
ROWS: dict[str, Row] = {
    "cnn-momentum": Row(
        model=_CNN,
        training=_study("nntrain-momentum", 0.4),
        published=(0.261, 0.903, 0.308, 0.889),
    ),
    "cnn-averaged-momentum": Row(
        model=_CNN,
        training=_study("nntrain-averaged-momentum", 1.5),
        published=(0.271, 0.900, 0.314, 0.886),
    ),
    "cnn-rmsprop": Row(
        model=_CNN,
        training=_study("nntrain-rmsprop", 3e-3),
        published=(0.322, 0.881, 0.352, 0.875),
    ),
    "cnn-adam": Row(
        model=_CNN,
        training=_study("nntrain-adam", 6e-3),
        published=(0.269, 0.902, 0.323, 0.882),
    ),
    "cnn-momentum-torch-nesterov": Row(model=_CNN, training=_study("sgd", 0.4)),
    "cnn-averaged-momentum-torch-nesterov": Row(model=_CNN, training=_study("sgd", 0.15)),
    "cnn-adam-torch": Row(model=_CNN, training=_study("adam", 6e-3)),
    "cnn-one-cycle": Row(
        model=_CNN,
        training=_study("adam", 6e-2, one_cycle=True),
        published=(0.208, 0.923, 0.265, 0.902),
    ),
    "deep-cnn-one-cycle": Row(
        model=_DEEP_CNN,
        training=_study("adam", 6e-2, one_cycle=True),
        published=(0.143, 0.948, 0.228, 0.919),
    ),
    "resnet-one-cycle": Row(
        model=RESNET,
        training=_study("adam", 1e-2, one_cycle=True),
        published=(0.159, 0.953, 0.237, 0.927),
    ),
    AUGMENTED: Row(
        model=RESNET,
        training=_LONGEST,
        published=(0.117, 0.960, 0.185, 0.939),
    ),
    REGULARISED: Row(
        model=RESNET,
        training=replace(_LONGEST, label_smoothing=0.1, weight_decay=0.1, mixup=0.5),
    ),
}
# Parameters and millions of MACs of each block, as the study's own summary tells them.
PUBLISHED_BLOCKS = (
    (696, 0.5),
    (3664, 1.4),
    (14496, 1.4),
    (57664, 1.5),
    (230016, 1.8),
    (918784, 1.8),
)
PUBLISHED_PARAMETERS, PUBLISHED_MMACS = 1_227_900, 8.4
# The rows whose rule is the study's own, each with torch's nearest.
TWINS = {
    "cnn-momentum": "cnn-momentum-torch-nesterov",
    "cnn-averaged-momentum": "cnn-averaged-momentum-torch-nesterov",
    "cnn-adam": "cnn-adam-torch",
}
