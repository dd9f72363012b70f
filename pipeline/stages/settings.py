"""What a user chooses for a command; the Makefile's variables have the same names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.convs import make_conv
from pipeline.models import make_model
from pipeline.training.recipes import make_recipe
from pipeline.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The choices of one command."""

    competition: str = "dog-vs-cat-vs-bird"
    """The competition's slug on Kaggle, or a folder under data/."""
    conv: str = "subkernel"
    """The convolution: subkernel or channel-selection."""
    model: str = "resnet14"
    """The network."""
    recipe: str = "quick"
    """How it is trained."""
    folds: int = 5
    """Number of cross-validation folds."""
    seed: int = 0
    """Every random stream derives from it."""
    host: Literal["auto", "kaggle", "local"] = "auto"
    """Where competitions live; auto: kaggle.com with credentials, else the local host."""
    force: bool = False
    """Upload even what was uploaded before."""
    root: Path = Path()
    """The folder that holds data/ and submissions/."""

    @property
    def workspace(self) -> Workspace:
        """The folders of this checkout."""
        return Workspace(root=self.root)

    def with_root(self, root: Path) -> Settings:
        """The same choices for the folders below `root`."""
        return replace(self, root=root)

    def check_names(self) -> None:
        """Fail on a misspelt name before any work is done.

        Raises:
            ConfigError: no conv, model or recipe has that name.
        """
        make_conv(self.conv, 1, 1, 1)
        make_model(self.model, self.conv, 1, 2, 0.0)
        make_recipe(self.recipe)
