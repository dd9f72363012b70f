"""kernels: write the committed notebooks, or tell which are stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.notebooks import KernelFiles, compare_kernel, variant_kernel
from pipeline.stages.console import say
from pipeline.stages.settings import Settings

KERNELS = "kernels"
COMPETITIONS = ("digits", "dog-vs-cat-vs-bird")
CONVS = ("subkernel", "channel-selection")
COMPARE = "compare"


def write_kernels(root: Path) -> None:
    """Write every committed kernel under `root`/kernels/.

    Raises:
        ConfigError: a notebook is larger than Kaggle takes.
    """
    for name, kernel in _all_committed():
        folder = root / KERNELS / name
        size = f"{kernel.notebook_size / 1000:.0f} kB of 1000"
        if kernel.are_in(folder):
            say("kernels", f"up to date: {folder} ({size})")
        else:
            kernel.write(folder)
            say("kernels", f"done: {folder} ({size})")


def stale_kernels(root: Path) -> list[str]:
    """The committed kernels that differ from what the package would generate now."""
    return [name for name, kernel in _all_committed() if not kernel.are_in(root / KERNELS / name)]


def committed_kernels(competition: str) -> Iterator[tuple[str, KernelFiles]]:
    """Folder under kernels/`competition`/ and content of each; none for most competitions."""
    if competition not in COMPETITIONS:
        return
    for conv in CONVS:
        yield conv, variant_kernel(Settings(competition=competition, conv=conv))
    yield COMPARE, compare_kernel(Settings(competition=competition), CONVS)


def _all_committed() -> Iterator[tuple[str, KernelFiles]]:
    """Folder under kernels/ and content of every committed kernel."""
    for competition in COMPETITIONS:
        for name, kernel in committed_kernels(competition):
            yield f"{competition}/{name}", kernel
