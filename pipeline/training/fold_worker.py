"""One fold in a process of its own: `python -m pipeline.training.fold_worker`.

Arguments: run folder, cache folder, fold number, device, CPU threads, deadline (seconds since
the epoch).
Prints each epoch's metrics as a JSON line; ends with the exit code of the error met, or 0.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.data.cache import load_cache
from pipeline.errors import PipelineError
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.run import Run
from pipeline.training.state import EpochMetrics


def main(arguments: list[str]) -> int:
    """Train the fold that the arguments name."""
    folder, cache, number, device, threads, at = arguments
    deadline = Deadline(float(at))
    try:
        run = Run.open(Path(folder))
        run.execution.prepare_process(int(threads))
        with deadline.heeding_signals():
            data = load_cache(Path(cache))
            run_fold(run, data, int(number), torch.device(device), _print_metrics, deadline)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _print_metrics(metrics: EpochMetrics) -> None:
    print(json.dumps(asdict(metrics)), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
