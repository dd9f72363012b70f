"""The IDX format of MNIST: a magic number, the sizes, then the bytes."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

_NAME = re.compile(r"[-.]idx\d-ubyte(\.gz)?$")
_UNSIGNED_BYTE = 8


def is_idx_name(name: str) -> bool:
    """Whether a file is called like `train-images-idx3-ubyte` or `train-images.idx3-ubyte.gz`."""
    return _NAME.search(name.lower()) is not None


def read_idx(path: Path) -> NDArray[Any]:
    """The array of unsigned bytes in an IDX file, with or without gzip.

    Raises:
        DataError: the file is no such array, or shorter or longer than its header says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
    except (struct.error, gzip.BadGzipFile, EOFError, zlib.error) as err:
        raise DataError(f"{path} is damaged or truncated ({err}); download it again") from err
    if zero != 0 or kind != _UNSIGNED_BYTE or dimensions == 0:
        raise DataError(f"{path} is no IDX file of unsigned bytes; download it again")
    start, size = 4 + 4 * dimensions, math.prod(shape)
    if len(data) - start != size:
        raise DataError(
            f"{path} holds {len(data) - start} values and its header says {size}; download it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
