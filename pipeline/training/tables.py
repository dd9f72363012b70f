"""Class probabilities as tables: they travel with their ids, never by position."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.artifacts import write_whole
from pipeline.errors import DataError


def probability_table(
    ids: Sequence[str], probabilities: Tensor | np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Probabilities [N, classes] as a table indexed by id, one column per class."""
    values = np.asarray(probabilities, dtype=np.float64)
    return pd.DataFrame(values, index=pd.Index(ids, name="id"), columns=list(classes))


def write_probabilities(path: Path, table: pd.DataFrame) -> None:
    """Save a probability table as CSV; nine digits keep every bit of fp32."""
    write_whole(path, table.to_csv(float_format="%.9g").encode())


def read_probabilities(path: Path) -> pd.DataFrame:
    """Read a probability table; ids stay text.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # Not by pandas: it would take a class called id for the ids, and rename it.
            _, *classes = next(csv.reader(file), [])
            table = pd.read_csv(
                file, header=None, index_col=0, dtype={0: str}, keep_default_na=False
            )
        return table.set_axis(classes, axis=1).rename_axis("id").astype(np.float64)
    except (ValueError, csv.Error) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is damaged ({reason}); delete it and rerun") from err
