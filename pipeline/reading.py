"""What the system says of a file that may not be read, in one clear line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StorageError

_REFUSED = {errno.EACCES, errno.EPERM}


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn a refused permission met while reading `path`, or a file below it, into one line.

    Raises:
        StorageError: a file or a folder on the way may not be read; it is named.
    """
    try:
        yield
    except OSError as err:
        if err.errno not in _REFUSED:
            raise
        refused = err.filename if isinstance(err.filename, str) else path
        raise StorageError(
            f"cannot read {refused}: {err.strerror}; let yourself read it and every folder above "
            "it (chmod u+rX) and rerun"
        ) from err


def raise_error(error: OSError) -> None:
    """For `os.walk(..., onerror=raise_error)`, which skips folders that it may not read."""
    raise error
