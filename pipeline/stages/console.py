"""One way to say what a stage did."""

from __future__ import annotations

from pipeline.errors import printable


def say(stage: str, text: str) -> None:
    """Print one line under the stage's name, whatever the names of files and classes hold."""
    print(f"{stage:<11} {printable(text)}", flush=True)


def say_table(stage: str, rows: list[tuple[str, str, str]]) -> None:
    """Print (name, value, reason) rows, aligned, under the stage's name."""
    shown = [[printable(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for name, value, reason in shown:
        say(stage, f"{name:<{widths[0]}}  {value:<{widths[1]}}  {reason}".rstrip())
