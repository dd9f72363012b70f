"""One way to say what a stage did."""

from __future__ import annotations


def say(stage: str, text: str) -> None:
    """Print one line under the stage's name."""
    print(f"{stage:<11} {text}", flush=True)
