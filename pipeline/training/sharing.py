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
from typing import Any

import torch
from tqdm import tqdm

_PROGRAM = "nvidia-cuda-mps-control"
_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"


@contextmanager
def shared_gpus() -> Iterator[Mapping[str, str] | None]:
    """The environment in which processes share the GPUs, as long as the context lasts.

    None where no server can be started, which is told.
    """
    if _PIPES in os.environ:  # somebody runs a server already
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        places = {_PIPES: folder, _LOGS: folder}
        problem = _start(places, Path(folder) / "start.log")
        if problem:
            tqdm.write(f"one fold at a time, {_PROGRAM}: {problem}", file=sys.stderr)
            yield None
            return
        try:
            # The server sees the GPUs that this process sees, and counts them anew.
            visible = ",".join(map(str, range(torch.cuda.device_count())))
            yield {**places, "CUDA_VISIBLE_DEVICES": visible}
        finally:
            result = _run([], places, input=b"quit\n", capture_output=True)
            if result.returncode:
                told = _first_line(result.stderr.decode(errors="replace"), result.returncode)
                tqdm.write(f"{_PROGRAM} may still run: {told}", file=sys.stderr)


def _start(places: Mapping[str, str], log: Path) -> str:
    """Start the server's daemon; why it did not start, if so."""
    if shutil.which(_PROGRAM) is None:
        return "not installed"
    # To a file: the daemon would keep a pipe open.
    with log.open("wb") as printed:
        result = _run(
            ["-d"],
            places,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    if result.returncode == 0:
        return ""
    return _first_line(log.read_text(errors="replace"), result.returncode)


def _first_line(told: str, code: int) -> str:
    return next(iter(told.splitlines()), f"exit code {code}")


def _run(
    arguments: list[str], places: Mapping[str, str], **pipes: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [_PROGRAM, *arguments], env={**os.environ, **places}, check=False, **pipes
    )
