"""Commands: `python -m pipeline <verb> [--option value ...]`. Nothing but parsing and calling.

Exit codes: 0 done or already up to date; 1 a bug; 2 a bad name or value; 3 damaged or
contradictory data; 4 the submission check failed; 5 daily limit; 6 credentials; 7 access refused
(rules); 8 the host; 9 disk; 10 another command is running; 11 the
time budget ended; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pipeline.errors import PipelineError
from pipeline.stages.settings import Settings

Options = Annotated[Settings, tyro.conf.arg(name="")]


def _stage(name: str, help_text: str) -> Callable[[Options], None]:
    def run(settings: Options) -> None:
        from pipeline.stages.chain import run_until  # heavy imports only when a stage runs

        run_until(name, settings)

    run.__doc__ = help_text
    return run


def ledger(settings: Options) -> None:
    """Print every upload: cross-validation beside public and private score."""
    from pipeline.stages.ledger import print_ledger

    print_ledger(settings.workspace)


def kernels(root: Path = Path()) -> None:
    """Write the Kaggle notebooks under kernels/ anew from the package."""
    from pipeline.stages.kernels import write_kernels

    write_kernels(root)


def push(settings: Options, via: Literal["file", "kernel"] = "file") -> None:
    """Push the variant's notebook, wait for it, check what it made, submit it, note the score.

    Args:
        via: submit the fetched file, or the kernel's version (for code competitions).
    """
    from pipeline.stages.push import push as push_kernel

    push_kernel(settings, via=via)


def host(port: int = 0) -> None:
    """Keep the local competition host running and print how to point the kaggle command at it.

    Args:
        port: the port on 127.0.0.1; 0 takes a free one.
    """
    from pipeline.host.lifecycle import default_state, serve

    serve(default_state(), port)


COMMANDS: dict[str, Callable[..., Any]] = {
    "download": _stage("download", "Get the competition's files into data/<competition>/raw/."),
    "preprocess": _stage("preprocess", "Decode the images into a tensor cache."),
    "train": _stage("train", "Train every fold of one configuration into a run folder."),
    "predict": _stage("predict", "Predict the test images with test-time augmentation."),
    "submission": _stage("submission", "Write and check submission.csv."),
    "submit": _stage("submit", "Upload submission.csv and wait for the score."),
    "ledger": ledger,
    "kernels": kernels,
    "push": push,
    "host": host,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    command = partial(tyro.extras.subcommand_cli_from_dict, COMMANDS, prog="python -m pipeline")
    try:
        command(args=arguments, description="Image competitions, from download to score.")
    except PipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
