"""What a user chooses for a command; the Makefile's variables have the same names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.workspace import Workspace

HOSTS = ("auto", "kaggle", "local")


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
    host: str = "auto"
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


def check_settings(settings: Settings) -> None:
    """Fail on a misspelt name or an impossible number before any work is done.

    Raises:
        ConfigError: a setting has no such value.
    """
    from pipeline.convs import make_conv  # torch: too slow to import for parsing alone
    from pipeline.models import make_model
    from pipeline.training.recipes import make_recipe

    make_conv(settings.conv, 1, 1, 1)
    make_model(settings.model, settings.conv, 1, 2, 0.0)
    make_recipe(settings.recipe)
    if settings.host not in HOSTS:
        raise ConfigError(f"HOST={settings.host!r} is unknown; choose from {', '.join(HOSTS)}")
    if not 0 <= settings.seed < 2**32:
        raise ConfigError(f"SEED={settings.seed}: choose 0 to {2**32 - 1}")
    if settings.folds < 2:
        raise ConfigError(f"FOLDS={settings.folds}: out-of-fold scores need at least 2")
