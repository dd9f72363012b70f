"""Class probabilities as tables: they travel with their ids, never by position."""

from __future__ import annotations

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
        table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False).set_index("id")
        return table.astype(np.float64)
    except (ValueError, KeyError) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is damaged ({reason}); delete it and rerun") from err
