"""Ids for test images that have none of their own: the sample submission's, row by row."""

from __future__ import annotations

import re

from pipeline.competition import Competition
from pipeline.data.questions import definition_path, to_decide
from pipeline.data.sample import Sample
from pipeline.errors import ConfigError, DataError

_KEY = "[submission] sample"
_NUMBER = re.compile(r"\d+")


def sample_ids_by_position(
    count: int, name: str, competition: Competition, sample: Sample | None
) -> list[str]:
    """The sample's ids for the `count` test images of the file `name`.

    Raises:
        ConfigError: there is no sample, or its ids are numbers in another order than the rows.
        DataError: the sample has another number of rows.
    """
    if sample is None:
        raise ConfigError(
            f"{name} has no ids, and there is no sample submission to take them from; put the "
            f"competition's sample_submission.csv into data/{competition.slug}/raw, or, where it "
            f"lies there under another name, set `{_KEY}` in {definition_path(competition)} to "
            "that name"
        )
    ids = sample.ids
    if len(ids) != count:
        raise DataError(
            f"{sample.path.name} has {len(ids)} rows and {name} {count} images; download both again"
        )
    if all(_NUMBER.fullmatch(text) for text in ids):
        numbers = [int(text) for text in ids]
        if numbers != sorted(numbers):
            problem = (
                f"{name} has no ids, and those of {sample.path.name} are numbers out of order: "
                "row or number could be meant"
            )
            raise to_decide(competition, _KEY, problem, ["a copy sorted by id"])
    return ids
