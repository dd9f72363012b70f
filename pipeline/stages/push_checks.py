"""What a kernel can be told, checked before anything is pushed."""

from __future__ import annotations

from pipeline.errors import ConfigError
from pipeline.stages.again import next_command
from pipeline.stages.hosts import check_slug
from pipeline.stages.kernel_session import HOURS_TO_RUN
from pipeline.stages.settings import Settings, changes, check_names
from pipeline.training.deadline import parse_budget
from pipeline.training.execution import choose_execution
from pipeline.training.recipes import SAVED

HOURS_TO_TRAIN = 10.5  # the rest of a session is for prediction and for saving the output
_NEEDS_A_GPU = {("device", "cuda"), ("graphs", "on")}


def check_for_kernel(settings: Settings) -> None:
    """As `check_settings`, but a GPU that is asked for must be where the kernel runs, not here.

    A notebook has no file of this machine, trains anew, and each GPU a fold of its own.

    Raises:
        ConfigError: a setting has no such value, or wants something else.
    """
    check_names(settings)
    decisions = changes(settings)[1].items()
    choose_execution(asked=dict(decisions - _NEEDS_A_GPU))
    check_slug(settings.competition)
    if settings.recipe.endswith(SAVED):
        raise ConfigError(
            f"RECIPE={settings.recipe}: a kernel cannot read that file; push with the recipe that "
            "it was tuned from, and its changes in SET='NAME=VALUE ...'"
        )
    if settings.run:
        command = next_command("submit", settings, {"RUN": settings.run})
        raise ConfigError(
            f"RUN={settings.run}: a kernel trains a run of its own; leave RUN out, or submit that "
            f"one by `{command}`"
        )
    if settings.launch != "auto":
        raise ConfigError(
            f"LAUNCH={settings.launch}: a kernel's GPUs train a fold each; leave LAUNCH out"
        )


def hours_to_train(budget: str) -> float:
    """How long a session may train.

    Raises:
        ConfigError: as long as it may run, or longer.
    """
    hours = parse_budget(budget) / 3600 if budget else HOURS_TO_TRAIN
    if hours >= HOURS_TO_RUN:
        raise ConfigError(
            f"BUDGET={budget}: a kernel's session ends after {HOURS_TO_RUN:.0f}h; choose less, "
            "the next session goes on where one stops"
        )
    return hours
