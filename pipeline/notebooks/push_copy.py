"""The copy of a kernel that is pushed: owner and commit filled in, and no secret in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from pipeline.artifacts import read_json
from pipeline.errors import ConfigError, DataError
from pipeline.notebooks.compose import with_parameters
from pipeline.notebooks.files import KernelFiles, notebook_bytes
from pipeline.notebooks.metadata import METADATA, OWNER
from pipeline.notebooks.secrets import scan_for_secrets
from pipeline.notebooks.slugs import check_slug


def prepare_push(
    kernel: Path,
    owner: str,
    commit: str | None,
    into: Path,
    *,
    note: str = "",
    settings: Mapping[str, object] | None = None,
    known: Iterable[str] = (),
    attach: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write the copy of the folder `kernel` that is pushed into `into`, and return `into`.

    `commit` (None outside a git checkout) and `note` are written into the first cell; `settings`
    are other values for the settings cell. `known` are the user's credentials, which must not be
    in the copy. `attach` adds inputs to the metadata's
    lists, such as {"kernel_sources": ["owner/slug"]} to go on from an earlier output.

    Raises:
        DataError: the folder holds no kernel.
        ConfigError: a secret is in it, it reaches 1 MB, or Kaggle would not take its slug.
    """
    metadata = _metadata(kernel)
    slug = check_slug(str(metadata["id"]).rpartition("/")[2])
    metadata["id"] = f"{owner}/{slug}"
    metadata["dataset_sources"] = [
        re.sub(f"^{OWNER}/", f"{owner}/", source) for source in metadata.get("dataset_sources", [])
    ]
    for key, values in (attach or {}).items():
        metadata[key] = list(dict.fromkeys([*metadata[key], *values]))
    notebook = _stamped(
        kernel / str(metadata["code_file"]), note, {"COMMIT": commit or "", **(settings or {})}
    )
    content = (json.dumps(metadata, indent=2) + "\n").encode()
    copy = KernelFiles(slug, {f"{slug}.ipynb": notebook, METADATA: content})
    _refuse_secrets(copy, kernel, list(known))
    copy.write(into)
    return into


def _metadata(kernel: Path) -> dict[str, Any]:
    path = kernel / METADATA
    if not path.is_file():
        raise DataError(f"{kernel} holds no {METADATA}; run `make kernels`")
    metadata = read_json(path)
    if not isinstance(metadata, dict) or not {"id", "code_file"} <= set(metadata):
        raise DataError(f"{path} has no 'id' and 'code_file'; run `make kernels`")
    return metadata


def _stamped(path: Path, note: str, settings: Mapping[str, object]) -> bytes:
    """The notebook with these settings, the commit and note in its first cell, and no outputs."""
    notebook = _read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = with_parameters(cell.source, settings)
    commit = settings["COMMIT"]
    stamps = [f"Commit: `{commit}`" if commit else "", note]
    notebook.cells[0].source = "\n\n".join(filter(None, [notebook.cells[0].source, *stamps]))
    return notebook_bytes(notebook)


def _read_notebook(path: Path) -> NotebookNode:
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, nbformat.ValidationError) as err:
        reason = " ".join(str(err).split())[:200]
        raise DataError(f"{path} is not a notebook ({reason}); run `make kernels`") from err
    if not notebook.cells:
        raise DataError(f"{path} has no cells; run `make kernels`")
    return notebook


def _refuse_secrets(copy: KernelFiles, kernel: Path, known: list[str]) -> None:
    found = [
        f"{name}: {finding}"
        for name, content in copy.files.items()
        for finding in scan_for_secrets(content.decode(), known)
    ]
    if found:
        raise ConfigError(
            f"{kernel}: {len(found)} secrets, first {found[0]}; nothing was pushed. Remove them, "
            "and if they ever left this machine, replace them"
        )
