"""What a kernel names as its sources, and the folders that its session sees of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.host.contests import Contests
from pipeline.host.kernels.sandbox import INPUT
from pipeline.host.kernels.store import Kernels, Settings, Version
from pipeline.host.preparation import Preparation
from pipeline.host.state import State

COMPETITIONS = "competitions"
_REFERENCE = re.compile(r"([\w-]+)/([\w-]+)(?:/(\d+))?", re.ASCII)


class MissingInputError(Exception):
    """A source that a queued version names is gone."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sources that the host cannot attach, by their names in the kernel's metadata."""

    competitions: list[str]
    kernels: list[str]
    datasets: list[str]
    models: list[str]

    def __str__(self) -> str:
        kinds = {
            "competition": self.competitions,
            "kernel": self.kernels,
            "dataset": self.datasets,
            "model": self.models,
        }
        return "; ".join(f"{kind}_sources {names}" for kind, names in kinds.items() if names)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The sources on a host."""

    state: State
    contests: Contests
    kernels: Kernels
    preparation: Preparation

    def unknown(self, viewer: str, settings: Settings) -> Unknown:
        """The sources that are not here, or that `viewer` may not see. No data set or model is."""
        return Unknown(
            [s for s in settings.competition_data_sources if self.contests.get(s) is None],
            [s for s in settings.kernel_data_sources if self._attached(viewer, s) is None],
            list(settings.dataset_data_sources),
            list(settings.model_data_sources),
        )

    def folders(self, version: Version) -> dict[Path, Path]:
        """Mount points and the folders to show there; builds a competition's data if need be.

        Raises:
            MissingInputError: an attached kernel has no output any more.
            PipelineError: a competition's data cannot be built.
        """
        shown = {
            INPUT / COMPETITIONS / slug: self.preparation.files(slug)
            for slug in version.settings.competition_data_sources
        }
        for source in version.settings.kernel_data_sources:
            attached = self._attached(version.owner, source)
            if attached is None:
                raise MissingInputError(f"the attached kernel {source!r} is not there any more")
            shown[INPUT / attached.slug] = self.state.output(attached.ref)
        return shown

    def _attached(self, viewer: str, source: str) -> Version | None:
        match = _REFERENCE.fullmatch(source)
        if match is None:
            return None
        owner, slug, number = match.groups()
        return self.kernels.newest_complete(viewer, owner, slug, int(number) if number else None)


def repeated_mount_point(settings: Settings) -> str | None:
    """The first name under /kaggle/input that two sources would share."""
    names = [source.split("/")[1] for source in settings.kernel_data_sources]
    return next((n for n in names if names.count(n) > 1 or n == COMPETITIONS), None)
