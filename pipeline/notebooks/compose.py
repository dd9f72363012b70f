"""A notebook from a percent-format template: settings filled in, modules put in as cells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

TEMPLATES = Path(__file__).parent / "templates"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
COLLAPSED = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}
FOLDERS = """\
for folder in {folders}:
    (CODE / folder).mkdir(parents=True)
for empty in {empty}:
    (CODE / empty).touch()"""


def template_source(name: str) -> str:
    """The text of a template of this package."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def compose(
    template: str,
    parameters: Mapping[str, Any],
    modules: Mapping[str, str],
    story: Mapping[str, str],
) -> NotebookNode:
    """The notebook of a percent-format `template`, valid and without outputs.

    The template's first cell is for its own readers and left out. `parameters` fill the cell
    tagged so, `modules` (path to source) follow the cell tagged so, and `story` and
    `parameters` give the $names in the text.
    """
    names = {**{key.lower(): _spoken(value) for key, value in parameters.items()}, **story}
    cells: list[NotebookNode] = []
    for number, cell in enumerate(jupytext.reads(template, fmt="py:percent").cells[1:]):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            cell.source = Template(cell.source).substitute(names)
        elif "parameters" in tags:
            cell.source = with_parameters(cell.source, parameters)
        cell.id = f"cell-{number:02}"
        cells += [cell, *(module_cells(modules) if "modules" in tags else [])]
    notebook: NotebookNode = new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return notebook


def with_parameters(source: str, values: Mapping[str, Any]) -> str:
    """The settings cell with other values; its comments stay.

    Raises:
        ValueError: the cell sets no such name.
    """
    for name, value in values.items():
        line = re.compile(rf"^{name} = [^#\n]*?(?=  #|$)", re.MULTILINE)
        setting = f"{name} = {_literal(value)}".replace("\\", r"\\")
        source, count = line.subn(setting, source)
        if count != 1:
            raise ValueError(f"the settings cell sets {name} {count} times, not once")
    return source


def module_cells(modules: Mapping[str, str]) -> list[NotebookNode]:
    """A cell that makes the folders, then one that writes each file; visible, but collapsed."""
    folders = sorted({str(Path(path).parent) for path in modules})
    empty = [path for path, source in modules.items() if not source]  # %%writefile refuses these
    making = FOLDERS.format(folders=_literal(folders), empty=_literal(empty))
    cells = [new_code_cell(making, id="folders", metadata=COLLAPSED)]
    for path, source in modules.items():
        if source:
            text = f"%%writefile {{CODE}}/{path}\n{source}"
            name = re.sub(r"[^a-z0-9_]", "-", path.lower())
            cells.append(new_code_cell(text, id=name, metadata=COLLAPSED))
    return cells


def _spoken(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _literal(value: Any) -> str:
    """Python source of a string, a number or a list of them: where JSON and Python agree."""
    return json.dumps(value)
