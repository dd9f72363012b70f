"""Layouts of whole arrays, told apart by their names: `.npy`, `.npz` and IDX files."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from pipeline.competition import Competition
from pipeline.data.layouts.array_images import to_images
from pipeline.data.layouts.idx import is_idx_name, read_idx
from pipeline.data.layouts.parts import RawPart
from pipeline.data.layouts.positional_ids import sample_ids_by_position
from pipeline.data.layouts.raw_files import RawFiles, Split, split_of, words_of
from pipeline.data.questions import definition_path, to_decide
from pipeline.data.sample import Sample
from pipeline.errors import ConfigError, DataError

Kind = Literal["images", "labels", "ids"]
_Loaded = TypeVar("_Loaded", NDArray[Any], NpzFile)
# By name in the raw folder; an array inside an .npz is called `file.npz:array`.
NamedArrays: TypeAlias = dict[str, Callable[[], NDArray[Any]]]
# numpy takes an array's header apart as Python text, and lets what goes wrong in it through.
_NPY_ERRORS = (ValueError, EOFError, SyntaxError, TokenError, MemoryError, OverflowError)
_NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError)

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("x", "images", "image", "imgs", "img", "data", "xtrain", "xtest"), "images"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target", "ytrain"), "labels"),
    **dict.fromkeys(("id", "ids"), "ids"),
}


def find_arrays(files: RawFiles) -> NamedArrays:
    """Every `.npy` file and every array of the `.npz` files.

    Raises:
        DataError: an `.npz` file is damaged.
    """
    found: NamedArrays = {}
    for name in files.ending(".npy"):
        found[name] = _npy_reader(files.root / name)
    for name in files.ending(".npz"):
        path = files.root / name
        found |= {f"{name}:{key}": _npz_reader(path, key) for key in _npz_keys(path)}
    return found


def find_idx(files: RawFiles) -> NamedArrays:
    """Every IDX file, compressed or not."""

    def reader(path: Path) -> Callable[[], NDArray[Any]]:
        return lambda: read_idx(path)

    return {name: reader(files.root / name) for name in files.names if is_idx_name(name)}


def has_training_images(arrays: NamedArrays) -> bool:
    """Whether a name says that it holds training images."""
    return any(_split_and_kind(name) == ("train", "images") for name in arrays)


def read_named_arrays(
    arrays: NamedArrays, competition: Competition, sample: Sample | None
) -> tuple[RawPart, RawPart, Competition]:
    """Training and test images from arrays of images, labels and, where there are any, ids.

    Raises:
        ConfigError: several arrays could be meant, or none.
        DataError: an array is damaged, has an unfitting shape, or two have other lengths.
    """
    if competition.data.group_column is not None:
        raise ConfigError(
            f"`[data] group_column` in {definition_path(competition)} needs a label table, "
            "and this competition has arrays; remove the key"
        )
    train = _one(arrays, "train", "images", competition)
    labels = _one(arrays, "train", "labels", competition)
    test = _one(arrays, "test", "images", competition)
    train_images = to_images(arrays[train](), train)
    train_labels = _texts(arrays[labels](), labels)
    train_ids = _ids(arrays, "train", competition) or [str(n) for n in range(len(train_images))]
    for name, texts in ((labels, train_labels), ("the training ids", train_ids)):
        if len(texts) != len(train_images):
            raise DataError(
                f"{train} has {len(train_images)} images and {name} {len(texts)} entries; "
                "download both again"
            )
    test_images = to_images(arrays[test](), test)
    test_ids = _ids(arrays, "test", competition)
    if test_ids is None:
        test_ids = sample_ids_by_position(len(test_images), test, competition, sample)
    data = replace(competition.data, train=train, train_labels=labels, test=test)
    return (
        RawPart(train_ids, train_images, train_labels),
        RawPart(_checked_length(test_ids, len(test_images), test), test_images),
        replace(competition, data=data),
    )


def _split_and_kind(name: str) -> tuple[Split | None, Kind | None]:
    """What a name says: `train_images.npy`, `X_train.npy`, `data.npz:y_train`, `train.npy`."""
    stem = re.sub(r"\.(npy|npz|gz)\b", " ", name.rsplit("/", 1)[-1])
    kinds = {_KINDS[word] for word in words_of(stem) if word in _KINDS}
    if kinds > {"images"}:  # train_image_labels, data_labels
        kinds.discard("images")
    split = split_of(stem)
    if not kinds and split is not None and ":" not in name:
        return split, "images"
    return split, kinds.pop() if len(kinds) == 1 else None


def _one(arrays: NamedArrays, split: Split, kind: Kind, competition: Competition) -> str:
    """The array that the definition names, or the only one that its name says it is."""
    key = "train_labels" if kind == "labels" else split
    named: str | None = getattr(competition.data, key)
    question = f"[data] {key}"
    if named is not None:
        if named not in arrays:
            raise to_decide(competition, question, f"there is no array {named!r}", list(arrays))
        return named
    found = [name for name in arrays if _split_and_kind(name) == (split, kind)]
    if len(found) != 1:
        problem = f"{len(found)} arrays are called like {split} {kind}"
        raise to_decide(competition, question, problem, found or list(arrays))
    return found[0]


def _ids(arrays: NamedArrays, split: Split, competition: Competition) -> list[str] | None:
    if all(_split_and_kind(name) != (split, "ids") for name in arrays):
        return None
    found = [name for name in arrays if _split_and_kind(name) == (split, "ids")]
    if len(found) > 1:
        raise DataError(
            f"{competition.slug} has {len(found)} arrays of {split} ids, {found[0]} and "
            f"{found[1]}; remove one"
        )
    return _texts(arrays[found[0]](), found[0])


def _checked_length(ids: list[str], count: int, name: str) -> list[str]:
    if len(ids) != count:
        raise DataError(f"{name} has {count} images and {len(ids)} ids; download both again")
    return ids


def _texts(array: NDArray[Any], name: str) -> list[str]:
    """Labels or ids as text; whole numbers lose their decimal point."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{name}: labels of shape {array.shape}; save one label per image")
    if array.dtype.kind == "S":
        return [bytes(value).decode("utf-8", errors="replace") for value in array]
    if array.dtype.kind == "f" and np.array_equal(array, np.floor(array)):
        array = array.astype(np.int64)
    if array.dtype.kind == "f":
        raise DataError(f"{name}: labels are fractions, first {array[0]}; save whole numbers")
    return [str(value) for value in array.tolist()]


def _npy_reader(path: Path) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        with _read_as_arrays(path):
            return _load(path, np.ndarray)

    return read


def _npz_keys(path: Path) -> list[str]:
    with _read_as_arrays(path), _load(path, NpzFile) as arrays:
        return list(arrays.files)


def _npz_reader(path: Path, key: str) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        with _read_as_arrays(path), _load(path, NpzFile) as arrays:
            array: NDArray[Any] = arrays[key]
        return array

    return read


def _load(path: Path, kind: type[_Loaded]) -> _Loaded:
    """One array or an archive of several: numpy goes by what is in the file, not by its name."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, kind):
        return loaded
    if isinstance(loaded, NpzFile):
        loaded.close()
        raise ValueError("it is an archive of arrays, rename it to .npz")
    raise ValueError("it is one array, rename it to .npy")


@contextmanager
def _read_as_arrays(path: Path) -> Iterator[None]:
    try:
        yield
    except (*_NPY_ERRORS, *_NPZ_ERRORS, OSError) as err:
        if isinstance(err, OSError) and err.filename is not None:
            raise  # the file cannot be opened; without a name, its parts are not where it says
        reason = " ".join(str(err).split())
        raise DataError(
            f"{path} cannot be read as arrays without pickle ({reason}); download it again, or "
            "save it as plain numbers"
        ) from err
