"""Executes a notebook as Kaggle would; the first program inside the test's sandbox.

Arguments: the notebook, where to write it with its outputs, and the names to block, with commas.
"""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from traitlets.config import Config

# The kernel itself has imported what it needs of these; None makes every later import fail.
BLOCK = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""
CONCLUDE = """
import socket
import pipeline

assert pipeline.__path__[0].startswith(str(CODE)), pipeline.__path__
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.strerror == "Network is unreachable", error
else:
    raise AssertionError("there is a network")
"""


def main() -> None:
    """Run the notebook between a cell that blocks packages and one that checks the sandbox."""
    source, target, names = sys.argv[1:]
    notebook = nbformat.read(source, as_version=4)
    block = new_code_cell(BLOCK.format(names=names.split(",")), id="block")
    notebook.cells = [block, *notebook.cells, new_code_cell(CONCLUDE, id="conclude")]
    config = Config({"KernelManager": {"transport": "ipc", "ip": "/kaggle/temp/socket"}})
    try:
        NotebookClient(notebook, kernel_name="python3", timeout=300, config=config).execute()
    finally:
        nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
