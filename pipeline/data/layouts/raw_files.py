"""The raw folder's files, listed once, and what their names say about train and test."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.artifacts import MANIFEST
from pipeline.data.ids import is_image_name
from pipeline.errors import DataError
from pipeline.reading import raise_error

Split = Literal["train", "test"]
_WORDS = re.compile(r"t10k|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "xtrain", "ytrain"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "xtest", "ytest", "t10k"), "test"),
}


@dataclass(frozen=True, slots=True)
class RawFiles:
    """Sorted names of all files below `root`, with forward slashes; hidden ones left out."""

    root: Path
    names: tuple[str, ...]

    def ending(self, *suffixes: str) -> list[str]:
        """Names with one of these endings, in lower or upper case."""
        return [name for name in self.names if name.lower().endswith(suffixes)]

    @property
    def images(self) -> list[str]:
        """Names of image files."""
        return [name for name in self.names if is_image_name(name)]


def list_files(raw: Path) -> RawFiles:
    """Every file of the raw folder but its manifest.

    Raises:
        DataError: a name is not UTF-8, so that no CSV could hold it; or a folder is a link.
        OSError: a folder may not be read.
    """
    names: list[str] = []
    links: list[str] = []
    for folder, subfolders, files in os.walk(raw, onerror=raise_error):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = Path(folder).relative_to(raw)
        names += [(below / name).as_posix() for name in files if not name.startswith(".")]
        links += [
            (below / name).as_posix() for name in subfolders if Path(folder, name).is_symlink()
        ]
    _check_names(raw, names)
    if links:
        raise DataError(
            f"{raw}: {len(links)} folders are links, which are not followed, first {min(links)!r}; "
            f"put the folders there, or make {raw} itself the link"
        )
    return RawFiles(raw, tuple(sorted(name for name in names if name != MANIFEST)))


def _check_names(raw: Path, names: list[str]) -> None:
    # Python reads a stray byte of a file name as half of a surrogate pair.
    broken = [name for name in names if any("\ud800" <= char <= "\udfff" for char in name)]
    if broken:
        raise DataError(
            f"{raw}: {len(broken)} of {len(names)} file names are not in UTF-8, first "
            f"{min(broken)!r}; rename them"
        )


def words_of(name: str) -> list[str]:
    """`X_train`, `trainImages`, `t10k-images-idx3-ubyte` in lower-case words."""
    return [word.lower() for word in _WORDS.findall(name)]


@lru_cache(maxsize=4096)  # a million images lie in few folders
def split_of(name: str) -> Split | None:
    """Whether a file's or folder's own name says train or test; None where it says neither."""
    said = {_SPLITS[word] for word in words_of(name) if word in _SPLITS}
    return said.pop() if len(said) == 1 else None


def split_folder(name: str) -> tuple[Split, str] | None:
    """The first folder on the way to the file `name` that is called train or test."""
    folders = PurePosixPath(name).parts[:-1]
    for depth, folder in enumerate(folders, start=1):
        split = split_of(folder)
        if split is not None:
            return split, "/".join(folders[:depth])
    return None


def below(folder: str, name: str) -> bool:
    """Whether the file `name` lies under `folder`; "." is the raw folder itself."""
    return folder == "." or name.startswith(folder.rstrip("/") + "/")
