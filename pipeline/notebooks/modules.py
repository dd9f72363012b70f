"""The modules that a run needs, found by following imports from where it starts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pipeline.native import native_sources

PACKAGE = Path(__file__).parents[1]
ENTRIES = (
    "pipeline.stages.kernel",
    "pipeline.training.fold_worker",  # started as a process of its own
    "pipeline.competitions",  # read as a folder of definitions
)
NATIVE = ".cpp"  # a module's own C++ lies beside it
IN_KAGGLES_IMAGE = frozenset(
    {
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "pandas",
        "PIL",
        "sklearn",
        "matplotlib",
        "safetensors",
        "tqdm",
    }
)


def needed_modules(entries: Sequence[str] = ENTRIES, package: Path = PACKAGE) -> dict[str, str]:
    """Path (`pipeline/errors.py`) to source of every module that `entries` reach, sorted by path.

    Raises:
        ImportError: a module is missing, or imports what Kaggle's image may not have.
    """
    sources: dict[str, str] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        file = _module_file(name, package)
        if file is None:
            raise ImportError(f"no module {name} in {package}")
        path = file.relative_to(package.parent).as_posix()
        if path in sources:
            continue
        sources[path] = file.read_text(encoding="utf-8")
        native = file.with_suffix(NATIVE)
        for source in native_sources(native) if native.exists() else []:
            sources[source.relative_to(package.parent).as_posix()] = source.read_text("utf-8")
        waiting += _packages_above(name)
        waiting += _followed(path, sources[path], package)
    return dict(sorted(sources.items()))


def _followed(path: str, source: str, package: Path) -> Iterator[str]:
    """The modules of the package that `source` imports; every other import is checked."""
    for name in _imports(source):
        root = name.split(".")[0]
        if root == package.name:
            # `from pipeline.data import archives` may name a module or what one defines.
            yield name if _module_file(name, package) else name.rpartition(".")[0]
        elif root not in IN_KAGGLES_IMAGE and root not in sys.stdlib_module_names:
            raise ImportError(
                f"{path} imports {root}, which Kaggle's image may not have; "
                "move what needs it out of the modules that run there"
            )


@cache  # every notebook carries nearly the same modules
def _imports(source: str) -> list[str]:
    return [name for node in ast.walk(ast.parse(source)) for name in _imported(node)]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _packages_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _module_file(name: str, package: Path) -> Path | None:
    stem = package.parent.joinpath(*name.split("."))
    candidates = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)
