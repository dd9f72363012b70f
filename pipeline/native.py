"""Native code that lies beside a module as C++, compiled once per machine.

The C++ compiler that is there makes it in a second or two; the result stays in the user's cache.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.artifacts import user_cache_folder, write_whole
from pipeline.errors import StorageError

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fPIC"),
    *("-ffp-contract=fast", "-fno-trapping-math", "-fno-math-errno"),
)
_INCLUDED = re.compile(r'^#include "(.+)"', re.MULTILINE)


@functools.cache
def native_library(source: Path) -> ctypes.CDLL:
    """The compiled code, from the user's cache folder if it was compiled here before.

    Raises:
        RuntimeError: there is no compiler, or it failed.
        OSError, StorageError: the result cannot be stored, or not be loaded.
    """
    compiler = _compiler()
    if not compiler:
        raise RuntimeError("no C++ compiler was found")
    texts = (file.read_text("utf-8") for file in native_sources(source))
    made_of = (*texts, *compiler, *FLAGS, *processor_flags())
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    path = user_cache_folder() / "native" / f"{source.stem}-{key}.so"
    if path.exists():
        with suppress(OSError):  # damaged, or made where the system's libraries are others
            return ctypes.CDLL(str(path))
    write_whole(path, _compile(source, compiler))
    return ctypes.CDLL(str(path))


@functools.cache
def native_function(source: Path, name: str, *arguments: type) -> Any:
    """A function of the compiled code that takes `arguments`, types of ctypes, and returns nothing.

    Raises:
        As `native_library`.
    """
    function = getattr(native_library(source), name)
    function.argtypes, function.restype = arguments, None
    return function


def native_sources(source: Path) -> list[Path]:
    """`source` and the headers of our own that it includes, or that these include, each once."""
    found = [source]
    for file in found:
        for name in _INCLUDED.findall(file.read_text("utf-8")):
            header = Path(os.path.normpath(file.parent / name))
            if header not in found:
                found.append(header)
    return found


@functools.cache
def native_problem(source: Path, processor: str | None = None) -> str | None:
    """Why this machine has no such code, which needs a processor that can do `processor`.

    None if it has.
    """
    if processor is not None and processor not in processor_flags():
        return f"the processor does not report {processor}"
    try:
        native_library(source)
    except (OSError, RuntimeError, StorageError) as err:
        return next(iter(str(err).strip().splitlines()), type(err).__name__)
    return None


def processor_flags() -> tuple[str, ...]:
    """What the processor can do, as Linux tells it: what `-march=native` depends on."""
    return tuple(_processor().get("flags", "").split())


def processor_name() -> str:
    """Which processor this is, as Linux tells it; elsewhere its architecture.

    Virtual machines may leave out the generation from its name, so its numbers stand there, too.
    """
    told = (_processor().get(field) for field in ("model name", "cpu family", "model"))
    return " ".join(filter(None, told)) or platform.processor() or platform.machine()


@functools.cache
def _processor() -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo; none where it is not Linux."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def _compiler() -> list[str]:
    """The command that compiles C++; CXX may hold options, as for make. Empty if there is none."""
    if asked_for := os.environ.get("CXX", "").split():
        return asked_for
    found = shutil.which("g++") or shutil.which("clang++")
    return [found] if found else []


def _compile(source: Path, compiler: list[str]) -> bytes:
    """The shared library; OpenMP's symbols are found in torch's own, and with them its threads."""
    with tempfile.TemporaryDirectory() as folder:
        unlinked, library = Path(folder, "code.o"), Path(folder, "code.so")
        for command in (
            [*compiler, *FLAGS, "-c", str(source), "-o", str(unlinked)],
            [*compiler, "-shared", str(unlinked), "-o", str(library)],
        ):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(compiler)} failed: {done.stderr.strip()}")
        return library.read_bytes()
