"""Several folds on one GPU at the same time: each in its process, all through one MPS server.

Kernels of small networks leave most of a large GPU idle, and those of other processes would wait
for their turn, were it not for NVIDIA's Multi-Process Service (docs.nvidia.com/deploy/mps).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

LARGE_GPU = 32 * 2**30
FOLDS_AT_ONCE = 5
_PROGRAM = "nvidia-cuda-mps-control"
_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"


def folds_at_once(device: str) -> tuple[int, str]:
    """How many folds a device trains at the same time, and why."""
    if device != "cuda":
        return 1, "a fold uses all threads"
    gpus = range(torch.cuda.device_count())
    smallest = min(torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus)
    if smallest < LARGE_GPU:
        return 1, f"the GPU has {smallest / 2**30:.0f} GiB, of 32 on they share it"
    if shutil.which(_PROGRAM) is None:
        return 1, f"{_PROGRAM} is not installed"
    return FOLDS_AT_ONCE, "each alone leaves most of the GPU idle"


@contextmanager
def shared_gpus() -> Iterator[Mapping[str, str]]:
    """The environment in which processes share the GPUs, as long as the context lasts.

    Where no server can be started, which is told, they take turns.
    """
    if _PIPES in os.environ:  # somebody runs a server already
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        environment = {_PIPES: folder, _LOGS: folder}
        problem = _start(environment, Path(folder) / "start.log")
        if problem:
            tqdm.write(f"folds take turns on the GPU, {_PROGRAM}: {problem}", file=sys.stderr)
            yield {}
            return
        try:
            yield environment
        finally:
            subprocess.run(
                [_PROGRAM], input=b"quit\n", env={**os.environ, **environment}, check=False
            )


def _start(environment: Mapping[str, str], log: Path) -> str:
    """Start the server's daemon; why it did not start, if so."""
    if shutil.which(_PROGRAM) is None:
        return "not installed"
    # To a file: the daemon would keep a pipe open.
    with log.open("wb") as printed:
        result = subprocess.run(
            [_PROGRAM, "-d"],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            check=False,
        )
    if result.returncode == 0:
        return ""
    return next(iter(log.read_text(errors="replace").splitlines()), f"code {result.returncode}")
