"""A safetensors file with one large tensor that is written row by row, never held in memory."""

from __future__ import annotations

import json
import math
import mmap
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# In the order in which the library lays tensors out.
_DTYPES = {torch.int64: "I64", torch.float32: "F32", torch.uint8: "U8", torch.bool: "BOOL"}
_ALIGNMENT = 8
_LENGTH_BYTES = 8
# The system reads this much around each byte asked for; a smaller row drags its neighbours along.
_READ_AHEAD = 128 * 2**10
# A smaller tensor stays in memory once it was read, so its rows' neighbours are welcome.
_KEPT_BYTES = 2**30


class RowFile:
    """An open file of tensors, one of which is still to be filled with rows.

    Rows are written at their place and not through a memory map: mapped pages would count as
    memory of this process, and a disk that fills up would kill it.
    """

    def __init__(self, descriptor: int, offset: int, row_bytes: int) -> None:
        self._descriptor, self._offset, self._row_bytes = descriptor, offset, row_bytes

    def write(self, number: int, row: NDArray[np.uint8]) -> None:
        """Put one row in; threads may write different ones at the same time.

        Raises:
            OSError: the disk is full.
        """
        _write_at(self._descriptor, row.tobytes(), self._offset + number * self._row_bytes)


@contextmanager
def row_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[RowFile]:
    """Write `tensors`, but for the one on the meta device: its rows are the caller's to write.

    With them the bytes are those of the library's own `save_file`, as long as `metadata` has one
    key. Space is reserved first, where the system can: a full disk is met before any work.

    Args:
        path: replaced if it is there.
        tensors: on the CPU; one of uint8 [rows, ...] on the meta device.
        metadata: of the file.

    Raises:
        OSError: the disk is full.
    """
    names = sorted(tensors, key=lambda name: (list(_DTYPES).index(tensors[name].dtype), name))
    ends = np.cumsum([0, *(tensors[name].nbytes for name in names)]).tolist()
    header = _header([(name, tensors[name]) for name in names], ends, metadata)
    places = {name: len(header) + start for name, start in zip(names, ends[:-1], strict=True)}
    (large,) = (name for name in names if tensors[name].is_meta)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _reserve(descriptor, len(header) + ends[-1])
        _write_at(descriptor, header, 0)
        for name in names:
            if name != large:
                _write_at(descriptor, tensors[name].numpy().tobytes(), places[name])
        yield RowFile(descriptor, places[large], tensors[large][0].nbytes)
    finally:
        os.close(descriptor)


def mapped_tensor(path: Path, name: str) -> Tensor:
    """A uint8 tensor of the file, read as it is used: not to be written to.

    The library's own map is a private one, which the system refuses for a file that is larger
    than its memory.

    Args:
        path: a safetensors file that the library has opened, so its header is whole.
        name: of the tensor.

    Raises:
        OSError: the file cannot be read.
        KeyError: it has no such tensor.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        entry = json.loads(file.read(length))[name]
        if 0 in entry["shape"]:
            return torch.empty(entry["shape"], dtype=torch.uint8)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    size = math.prod(entry["shape"])
    row = size // entry["shape"][0]
    if size > _KEPT_BYTES and row < _READ_AHEAD and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    offset = _LENGTH_BYTES + length + entry["data_offsets"][0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        data = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=offset)
    return data.view(entry["shape"])


def _header(
    tensors: list[tuple[str, Tensor]], ends: list[int], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    for place, (name, tensor) in enumerate(tensors):
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": ends[place : place + 2],
        }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS: writing the rows meets a full disk, too
        os.truncate(descriptor, size)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
