"""One fold in a process of its own: `python -m pipeline.training.fold_worker`.

Arguments: run folder, cache folder, fold number, device, CPU threads, deadline (seconds since
the epoch). Started by torchrun, its processes train the fold together.
Prints JSON lines: each epoch's metrics, and at last `{"error", "exit_code"}` if it failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.data.cache import load_cache
from pipeline.errors import BudgetError, PipelineError
from pipeline.training import group
from pipeline.training.deadline import Deadline
from pipeline.training.execution import for_group
from pipeline.training.fold import run_fold
from pipeline.training.run import Run

_OUTPUT, _ERRORS = 1, 2  # file descriptors
_RANK_HERE, _GROUP_SIZE = "LOCAL_RANK", "WORLD_SIZE"  # set by torchrun


def main(arguments: list[str], messages: int) -> int:
    """Train the fold that the arguments name, and write the messages to a file descriptor."""

    def tell(message: dict[str, object]) -> None:
        # In one piece: the processes of a group share the pipe.
        os.write(messages, (json.dumps(message) + "\n").encode())

    folder, cache, number, device, threads, at = arguments
    together = _GROUP_SIZE in os.environ
    deadline = Deadline(float(at))
    try:
        run = Run.open(Path(folder))
        if together:
            device = f"cuda:{os.environ[_RANK_HERE]}" if device == "cuda" else device
            run = run.with_execution(for_group(run.execution))
        run.execution.prepare_process(int(threads))
        if device != "cpu":
            torch.cuda.set_device(device)
        members = group.process_group(run.execution.device) if together else nullcontext()
        with deadline.heeding_signals(*_stops()), members:
            data = load_cache(Path(cache))
            place = torch.device(device)
            run_fold(run, data, int(number), place, lambda epoch: tell(asdict(epoch)), deadline)
    except PipelineError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        # All processes of a group stop at their deadline together: torchrun need not interfere.
        return 0 if together and isinstance(error, BudgetError) else error.exit_code
    except Exception as error:  # told by name: torchrun would only say that there was one
        print(traceback.format_exc(), file=sys.stderr)
        first = next(iter(str(error).strip().splitlines()), "no message")
        told = f"fold {number}: {type(error).__name__}: {first}"
        tell({"error": told, "exit_code": PipelineError.exit_code})
        return PipelineError.exit_code
    return 0


def _stops() -> list[signal.Signals]:
    """The signals that let the fold save its state and end.

    Ctrl-C reaches every process of a command, unless it runs in the background of a script.
    """
    in_background = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return [signal.SIGTERM] if in_background else [signal.SIGTERM, signal.SIGINT]


def messages_alone() -> int:
    """Standard output; what libraries print there, such as NCCL, goes to the error stream."""
    messages = os.dup(_OUTPUT)
    os.dup2(_ERRORS, _OUTPUT)
    return messages


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], messages_alone()))
