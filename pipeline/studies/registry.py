"""The studies by name."""

from __future__ import annotations

from pipeline.errors import ConfigError
from pipeline.studies import bottleneck, channel_selection, from_scratch, nntrain
from pipeline.studies.cells import Study

ALL = "all"
STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (channel_selection, from_scratch, bottleneck, nntrain)
}


def chosen_studies(name: str) -> list[Study]:
    """The study `name`, or every one.

    Raises:
        ConfigError: no study has that name.
    """
    if name == ALL:
        return list(STUDIES.values())
    if name not in STUDIES:
        raise ConfigError(f"STUDY={name!r} is unknown; choose from {', '.join([*STUDIES, ALL])}")
    return [STUDIES[name]]
