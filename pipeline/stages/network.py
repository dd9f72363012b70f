"""The network that the settings choose for a competition's images, and what it starts from."""

from __future__ import annotations

from pipeline.data.cache import TensorCache
from pipeline.errors import ConfigError
from pipeline.models.registry import weights_normalisation
from pipeline.stages.settings import Settings
from pipeline.stages.starting_weights import StartingWeights, starting_weights
from pipeline.training.recipes import Recipe
from pipeline.training.run import Network


def network_of(
    settings: Settings, recipe: Recipe, data: TensorCache
) -> tuple[Network, StartingWeights | None]:
    """The settings' network for these images, and the weights that it starts from.

    Raises:
        ConfigError: the recipe is for weights to start from, and there are none.
        DataError: the weights' file is damaged, or its normalisation is none.
    """
    weights, channels = starting_weights(settings), data.train.images.shape[-1]
    if recipe.frozen > 0 and weights is None:
        raise ConfigError(
            f"RECIPE={settings.recipe} trains the classifier alone at first (frozen="
            f"{recipe.frozen}), but there are no weights of {settings.model} to start from; run "
            f"`make weights MODEL={settings.model}`, give WEIGHTS=<file>, or SET='frozen=0'"
        )
    given = weights and weights_normalisation(settings.model, weights.path, channels)
    network = Network(
        model=settings.model,
        conv=settings.conv,
        channels=channels,
        classes=len(data.classes),
        dropout=recipe.dropout,
        weights=weights.sha256 if weights else None,
        mean=given.mean if given else None,
        std=given.std if given else None,
    )
    return network, weights
