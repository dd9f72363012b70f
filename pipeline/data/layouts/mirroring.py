"""Whether a mirrored image keeps its label: the definition's word, else what the classes say."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.competition import Competition


def may_mirror(competition: Competition, classes: Sequence[str]) -> bool:
    """Whether training and prediction may look at mirrored images."""
    said = competition.data.mirror
    return not _are_signs(classes) if said is None else said


def mirror_reason(competition: Competition, classes: Sequence[str]) -> str:
    """Why images are mirrored or not; `competition` is the definition before `read_layout`."""
    decision = "mirrored" if may_mirror(competition, classes) else "never mirrored"
    if competition.data.mirror is not None:
        return f"{decision}: [data] mirror = {str(competition.data.mirror).lower()}"
    if _are_signs(classes):
        why = "every class is a single digit or letter, which a mirror makes another sign"
    else:
        why = "the classes are not all single digits or letters"
    return f"{decision}: {why}; key: [data] mirror"


def _are_signs(classes: Sequence[str]) -> bool:
    return all(len(name) == 1 and name.isalnum() for name in classes)
