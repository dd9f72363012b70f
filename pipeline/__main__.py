"""`python -m pipeline <verb> [--option value ...]`; the Makefile's targets call this.

Exit codes: 0 done or already up to date; 1 a bug; 2 a bad name or value; 3 damaged or
contradictory data; 4 the submission check failed; 5 daily limit; 6 credentials; 7 access refused
(rules); 8 the host; 9 disk; 10 another command is running; 11 the time budget ended;
130 interrupted.
"""

from __future__ import annotations

import os
import sys

from pipeline.errors import PipelineError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        from pipeline.commands import run_command  # here, so that Ctrl-C while importing ends well

        run_command(arguments)
    except PipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
