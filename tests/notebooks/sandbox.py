"""A stand-in for Kaggle's machine: its folders, no network, and nothing of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from pipeline.notebooks.compose import with_parameters

REPOSITORY = Path(__file__).parents[2]
LAPTOP_PACKAGES = (
    "kaggle,kagglesdk,kagglehub,tyro,rich,stamina,filelock,platformdirs,fastapi,uvicorn,pydantic,"
    "jupytext,nbformat,nbclient"
)
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/kaggle/home",
    "TMPDIR": "/kaggle/temp",
    "OMP_NUM_THREADS": "1",  # so little work is slower on several
}


def missing_isolation() -> str | None:
    """Why notebooks cannot be isolated on this machine; None where they can."""
    try:
        tried = subprocess.run(
            ["bwrap", "--ro-bind", "/", "/", "--unshare-net", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "there is no bwrap here (the package bubblewrap)"
    return f"bwrap cannot isolate here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Machine:
    """The folders of one Kaggle session; `home` may be shared between sessions."""

    root: Path
    home: Path
    inputs: Path = field(init=False)
    working: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in ("inputs", "working", "temp", "notebook"):
            (self.root / name).mkdir(parents=True)
        object.__setattr__(self, "inputs", self.root / "inputs")
        object.__setattr__(self, "working", self.root / "working")

    def run(
        self, source: Path, *, before_training: str = "", **settings: object
    ) -> nbformat.NotebookNode:
        """Execute a notebook with other settings; returns it with its outputs.

        `before_training` is put ahead of the cell that trains.

        Raises:
            AssertionError: a cell failed; with what was printed.
        """
        notebook = nbformat.read(source, as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = with_parameters(cell.source, settings)
            elif cell.source.startswith("run = train_within("):
                cell.source = f"{before_training}\n{cell.source}"
        folder = self.root / "notebook"
        nbformat.write(notebook, folder / "source.ipynb")
        program = [sys.executable, str(REPOSITORY / "tests/notebooks/execute.py")]
        arguments = ["/kaggle/notebook/source.ipynb", "/kaggle/notebook/done.ipynb"]
        result = subprocess.run(
            [*self._bwrap(), *program, *arguments, LAPTOP_PACKAGES],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return nbformat.read(folder / "done.ipynb", as_version=4)

    def _bwrap(self) -> list[str]:
        """Everything read-only, the package hidden, Kaggle's folders, and no network."""
        options = ["--unshare-net", "--unshare-pid", "--die-with-parent"]
        for path in sorted(Path("/").iterdir()):
            if path.is_symlink():
                options += ["--symlink", os.readlink(path), str(path)]
            elif path.name not in {"dev", "proc", "sys", "kaggle"}:
                options += ["--ro-bind", str(path), str(path)]
        options += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", str(REPOSITORY / "pipeline")]
        options += ["--ro-bind", str(self.inputs), "/kaggle/input"]
        for name in ("working", "temp", "notebook"):
            options += ["--bind", str(self.root / name), f"/kaggle/{name}"]
        options += ["--bind", str(self.home), "/kaggle/home", "--chdir", "/kaggle/working"]
        return ["bwrap", *options]


def printed(notebook: nbformat.NotebookNode) -> str:
    """Everything that a notebook's cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(notebook: nbformat.NotebookNode, kind: str) -> int:
    """How many outputs of a MIME type its cells showed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum(kind in output.get("data", {}) for output in outputs)
