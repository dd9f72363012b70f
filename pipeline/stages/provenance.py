"""What made a run: commit, package versions and machine, for run.json."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "pillow", "scikit-learn")


# Set where the code was copied out of its checkout, as in a pushed notebook.
COMMIT_VARIABLE = "PIPELINE_COMMIT"


def provenance() -> dict[str, Any]:
    """Commit (None outside a git checkout), whether it was modified, versions and machine."""
    commit = os.environ.get(COMMIT_VARIABLE) or _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "modified": _git("status", "--porcelain") not in {None, ""},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except FileNotFoundError:
        names = []
    return names[0] if names else platform.processor()
