"""What a user chooses for a command; the Makefile's variables have the same names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.competition import DataSpec
from pipeline.errors import ConfigError
from pipeline.workspace import Workspace

HOSTS = ("auto", "kaggle", "local")
LAUNCHES = ("auto", "ddp", "ray")
DECISIONS = (
    "device",
    "precision",
    "compile",
    "graphs",
    "norms",
    "micro_batch",
    "threads",
    "folds_at_once",
)
_NOT_TOGETHER = {"compile": "on", "graphs": "on", "norms": "native"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The choices of one command."""

    competition: str = "dog-vs-cat-vs-bird"
    """The competition's slug on Kaggle, or a folder under data/."""
    conv: str = "subkernel"
    """The convolution, by name."""
    model: str = "resnet14"
    """The network: the project's own, a torchvision ResNet or any timm model."""
    recipe: str = "quick"
    """How it is trained."""
    size: int = 0
    """Side of the images in pixels, 8 to 1024; 0: as the competition's definition says."""
    folds: int = 5
    """Number of cross-validation folds."""
    seed: int = 0
    """Every random stream of training derives from it."""
    fold_seed: int = 0
    """What the fold map derives from: runs of one map are compared and blended fold by fold."""
    weights: str = "auto"
    """Weights to start from: auto (what `make weights` made for the network, else none), none, or
    a .safetensors file."""
    host: str = "auto"
    """Where competitions live; auto: kaggle.com with credentials, else the local host."""
    force: bool = False
    """Upload even what was uploaded before."""
    execution: str = "auto"
    """How the convolutions compute: auto times those that the variant offers."""
    set: str = ""
    """NAME=VALUE, separated by spaces: any field of the recipe, or device, precision, compile,
    graphs, norms, micro_batch, threads, folds_at_once."""
    budget: str = ""
    """Stop training after this time, such as 11h or 1h30m; run again to go on."""
    launch: str = "auto"
    """Where folds train: auto (each GPU a fold of its own, or the CPU), ddp (all GPUs one fold
    together), or ray (tasks of a running Ray cluster)."""
    run: str = ""
    """A finished run by name, in place of the one that the other choices make."""
    root: Path = Path()
    """The folder that holds data/ and submissions/."""

    @property
    def workspace(self) -> Workspace:
        """The folders of this checkout."""
        return Workspace(root=self.root)

    def with_root(self, root: Path) -> Settings:
        """The same choices for the folders below `root`."""
        return replace(self, root=root)


def changes(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """What `set` changes of the recipe, and what of the execution.

    Raises:
        ConfigError: a part is not NAME=VALUE, or there is no such name.
    """
    from pipeline.training.recipes import recipe_fields

    pairs = [part.partition("=") for part in settings.set.split()]
    for name, equals, value in pairs:
        if not equals or not value:
            raise ConfigError(f"SET={name!r} is not NAME=VALUE, such as epochs=40")
        if name not in (*recipe_fields(), *DECISIONS):
            known = ", ".join([*recipe_fields(), *DECISIONS])
            raise ConfigError(f"SET={name!r} is unknown; choose from {known}")
    values = {name: value for name, _, value in pairs}
    of_recipe = {name: value for name, value in values.items() if name not in DECISIONS}
    return of_recipe, {name: values[name] for name in DECISIONS if name in values}


def named_run(settings: Settings, command: str) -> str:
    """The run that the checked settings name, for a command that needs one.

    Raises:
        ConfigError: they name none, or another setting has no such value.
    """
    check_settings(settings)
    if not settings.run:
        raise ConfigError(
            f"{command} needs a run: RUN=<name>, a folder of submissions/<competition>"
        )
    return settings.run


def check_settings(settings: Settings) -> None:
    """Fail on a misspelt name or an impossible number before any work is done.

    Raises:
        ConfigError: a setting has no such value.
    """
    from pipeline.training.execution import choose_execution

    check_names(settings)
    choose_execution(asked=changes(settings)[1])


def check_names(settings: Settings) -> None:
    """As `check_settings`, apart from what this machine can do: nothing is tried, or compiled.

    Raises:
        ConfigError: a setting has no such value.
    """
    from pipeline.convs import make_conv, set_execution  # torch: too slow for parsing alone
    from pipeline.models import check_classifier
    from pipeline.training.deadline import parse_budget
    from pipeline.training.recipes import make_recipe

    set_execution(make_conv(settings.conv, 1, 1, 1), settings.execution)
    check_classifier(settings.model)
    make_recipe(settings.recipe, changes(settings)[0])
    parse_budget(settings.budget)
    _check_launch(settings.launch, changes(settings)[1])
    if settings.host not in HOSTS:
        raise ConfigError(f"HOST={settings.host!r} is unknown; choose from {', '.join(HOSTS)}")
    for name, seed in (("SEED", settings.seed), ("FOLD_SEED", settings.fold_seed)):
        if not 0 <= seed < 2**32:
            raise ConfigError(f"{name}={seed}: choose 0 to {2**32 - 1}")
    if settings.size:
        DataSpec(size=settings.size)
    if settings.folds < 2:
        raise ConfigError(f"FOLDS={settings.folds}: out-of-fold scores need at least 2")


def _check_launch(launch: str, asked: dict[str, str]) -> None:
    """Fail on a place to train that does not exist, or cannot compute as asked."""
    if launch not in LAUNCHES:
        raise ConfigError(f"LAUNCH={launch!r} is unknown; choose from {', '.join(LAUNCHES)}")
    if launch != "auto" and "folds_at_once" in asked:
        raise ConfigError(f"folds_at_once is for LAUNCH=auto, not {launch}; leave one out")
    refused = [name for name, value in _NOT_TOGETHER.items() if asked.get(name) == value]
    if launch == "ddp" and refused:
        wish = f"{refused[0]}={_NOT_TOGETHER[refused[0]]}"
        raise ConfigError(f"{wish} is not possible with LAUNCH=ddp; leave one out")
