"""The competitions this host can build: where each one's images come from, how it serves them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import Competition, load_competition
from pipeline.errors import ConfigError
from pipeline.host import layouts
from pipeline.host.layouts import File, Part
from pipeline.host.sources import bursts, cifar10, clothing, digits, grades, mnist, photos
from pipeline.host.sources.images import Collection

_NO_OVERRIDES = Path(os.devnull)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`load` reads the images, keeping what it fetched in the folder it is given."""

    load: Callable[[Path], Collection]
    layout: Callable[[Part, Part], Iterator[File]]


RECIPES: dict[str, Recipe] = {
    "cat-or-dog-bursts": Recipe(bursts.load, layouts.table),
    "clothing-skew": Recipe(clothing.load_skewed, layouts.folders),
    "compression-grade": Recipe(grades.load, layouts.table),
    "digits": Recipe(digits.load, layouts.pixels),
    "dog-vs-cat-vs-bird": Recipe(cifar10.load_dog_cat_bird, layouts.folders),
    "fashion-mnist": Recipe(mnist.load_fashion_mnist, layouts.table),
    "mnist": Recipe(mnist.load_mnist, layouts.idx),
    "photo-pieces": Recipe(photos.load, layouts.table),
    "side-by-side": Recipe(clothing.load_pairs, layouts.table),
    "vehicles": Recipe(cifar10.load_vehicles, layouts.table),
}


def available_competitions() -> list[str]:
    """Slugs of the competitions the local host offers."""
    return sorted(RECIPES)


def check_available(slug: str) -> None:
    """Refuse a competition that the local host does not offer.

    Raises:
        ConfigError: names the competitions there are.
    """
    if slug not in RECIPES:
        raise ConfigError(
            f"the local host has no competition {slug!r}; "
            f"choose from {', '.join(available_competitions())}"
        )


def definition(slug: str) -> Competition:
    """The shipped definition alone: a user's own overrides never reach the host."""
    return load_competition(slug, _NO_OVERRIDES)
