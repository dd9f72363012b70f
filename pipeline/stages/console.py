"""One way to say what a stage did."""

from __future__ import annotations


def say(stage: str, text: str) -> None:
    """Print one line under the stage's name."""
    print(f"{stage:<11} {text}", flush=True)


def say_table(stage: str, rows: list[tuple[str, str, str]]) -> None:
    """Print (name, value, reason) rows, aligned, under the stage's name."""
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, reason in rows:
        say(stage, f"{name:<{widths[0]}}  {value:<{widths[1]}}  {reason}".rstrip())
