"""Where the folds of a command train: what LAUNCH accepts."""

from __future__ import annotations

from pipeline.training.group_launch import train_in_groups
from pipeline.training.launch import Launcher, train_on_devices
from pipeline.training.ray_launch import train_on_ray

_LAUNCHERS: dict[str, Launcher] = {
    "auto": train_on_devices,
    "ddp": train_in_groups,
    "ray": train_on_ray,
}


def launcher(name: str) -> Launcher:
    """The launcher of a name that `check_settings` accepts."""
    return _LAUNCHERS[name]
