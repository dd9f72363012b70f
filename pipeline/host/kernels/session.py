"""Runs one kernel. The first program inside the sandbox, where nothing of this project is seen.

Arguments: the code file, and the resource limits as a JSON object.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main() -> int:
    """Limit this process and its children, then run the code; return its exit code."""
    code = Path(sys.argv[1])
    for name, value in json.loads(sys.argv[2]).items():
        _limit(getattr(resource, name), value)
    if code.suffix == ".py":
        os.execv(sys.executable, [sys.executable, str(code)])
    return _run_notebook(code)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _run_notebook(code: Path) -> int:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from traitlets.config import Config

    class Client(NotebookClient):
        """Passes on what the cells print, when they print it."""

        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            content = msg["content"]
            if msg["msg_type"] == "stream":
                print(content["text"], end="", flush=True, file=getattr(sys, content["name"]))
            elif msg["msg_type"] == "error":
                lines = "\n".join(content["traceback"])
                print(_TERMINAL_COLOURS.sub("", lines), flush=True, file=sys.stderr)
            return super().process_message(msg, cell, cell_index)

    # Unix sockets, of which `ip` is the path; ports of the loopback interface belong to the code.
    config = Config({"KernelManager": {"transport": "ipc", "ip": "/tmp/notebook"}})
    notebook = nbformat.read(code, as_version=4)
    client = Client(notebook, kernel_name="python3", timeout=None, config=config)
    try:
        client.execute()
    except CellExecutionError:
        # Its traceback was printed when it was raised.
        return 1
    except DeadKernelError:
        print("the notebook's Python process died", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
