"""Kernels for the tests: written, pushed with the real client, and waited for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pipeline.host.kernels import sandbox
from pipeline.host.state import default_state
from tests.host.running import Caller, Reply

KERNELS = "kernels.KernelsApiService"
COPY_SAMPLE = (
    "import shutil\n"
    "shutil.copy('/kaggle/input/competitions/digits/sample_submission.csv', 'submission.csv')\n"
)


def needs_sandbox() -> pytest.MarkDecorator:
    """Skip, with the reason, where kernels cannot run."""
    try:
        sandbox.check_available(default_state())
    except sandbox.UnavailableError as err:
        return pytest.mark.skipif(True, reason=str(err))
    return pytest.mark.skipif(False, reason="")


def notebook(*cells: str) -> str:
    """A notebook of these code cells."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    return str(nbformat.writes(nbformat.v4.new_notebook(cells=code)))


def write_kernel(folder: Path, owner: str, slug: str, code: str, **changed: Any) -> None:
    """A folder that `kaggle kernels push -p` takes. Code that starts like JSON is a notebook."""
    is_notebook = code.startswith("{")
    name = "code.ipynb" if is_notebook else "code.py"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(code)
    metadata = {
        "id": f"{owner}/{slug}",
        "title": slug,
        "code_file": name,
        "language": "python",
        "kernel_type": "notebook" if is_notebook else "script",
        "is_private": True,
        "enable_gpu": False,
        "enable_internet": False,
        "competition_sources": ["digits"],
        **changed,
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata))


def push(user: Caller, folder: Path, slug: str, code: str, **changed: Any) -> str:
    """Push with `kaggle kernels push`; what it printed."""
    write_kernel(folder, user.name, slug, code, **changed)
    pushed = user.kaggle("kernels", "push", "-p", str(folder))
    assert pushed.returncode == 0, pushed.stderr
    return pushed.stdout


def save(user: Caller, name: str, code: str, **changed: Any) -> Reply:
    """One SaveKernel call without the client; the reply."""
    body = {
        "slug": f"{user.name}/{name}",
        "newTitle": name,
        "text": code,
        "language": "python",
        "kernelType": "script",
        **changed,
    }
    return user.call("SaveKernel", service=KERNELS, **body)


def wait_until_run(user: Caller, slug: str, owner: str = "") -> dict[str, str]:
    """The status once the newest version ended."""
    while True:
        status: dict[str, str] = user.call(
            "GetKernelSessionStatus",
            service=KERNELS,
            userName=owner or user.name,
            kernelSlug=slug,
        ).json
        if status["status"] not in ("QUEUED", "RUNNING"):
            return status
