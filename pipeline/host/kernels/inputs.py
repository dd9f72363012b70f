"""What a kernel names as its sources, and the folders that its session sees of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.host.contests import Contests
from pipeline.host.datasets import Datasets, DatasetVersion
from pipeline.host.kernels.sandbox import INPUT
from pipeline.host.kernels.store import Kernels, Settings, Version
from pipeline.host.preparation import Preparation
from pipeline.host.state import State

COMPETITIONS = "competitions"
_REFERENCE = re.compile(r"([\w-]+)/([\w-]+)(?:/(\d{1,15}))?", re.ASCII)


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
    datasets: Datasets
    preparation: Preparation

    def unknown(self, viewer: str, settings: Settings) -> Unknown:
        """The sources that are not here, or that `viewer` may not see. There are no models."""
        return Unknown(
            [s for s in settings.competition_data_sources if self.contests.get(s) is None],
            [s for s in settings.kernel_data_sources if self._kernel(viewer, s) is None],
            [s for s in settings.dataset_data_sources if self._dataset(viewer, s) is None],
            list(settings.model_data_sources),
        )

    def folders_of_rerun(self, version: Version, competition: str) -> dict[Path, Path]:
        """As `folders`, with the hidden test set of a code competition in place of the known."""
        hidden = self.preparation.rerun(competition).files
        return self.folders(version) | {INPUT / COMPETITIONS / competition: hidden}

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
            kernel = self._kernel(version.owner, source)
            if kernel is None:
                raise MissingInputError(f"the attached kernel {source!r} is not there any more")
            shown[INPUT / kernel.slug] = self.state.output(kernel.ref)
        for source in version.settings.dataset_data_sources:
            dataset = self._dataset(version.owner, source)
            if dataset is None:
                raise MissingInputError(f"the attached dataset {source!r} is not there any more")
            shown[INPUT / dataset.slug] = self.datasets.files(dataset.ref)
        return shown

    def _kernel(self, viewer: str, source: str) -> Version | None:
        named = _parse(source)
        return self.kernels.newest_complete(viewer, *named) if named else None

    def _dataset(self, viewer: str, source: str) -> DatasetVersion | None:
        named = _parse(source)
        return self.datasets.find(viewer, *named) if named else None


def _parse(source: str) -> tuple[str, str, int | None] | None:
    """Owner, slug and version of `owner/slug[/version]`."""
    match = _REFERENCE.fullmatch(source)
    if match is None:
        return None
    owner, slug, number = match.groups()
    return owner, slug, int(number) if number else None


def repeated_mount_point(settings: Settings) -> str | None:
    """The first name under /kaggle/input that two sources would share."""
    sources = (*settings.kernel_data_sources, *settings.dataset_data_sources)
    names = [source.split("/")[1] for source in sources]
    return next((n for n in names if names.count(n) > 1 or n == COMPETITIONS), None)
