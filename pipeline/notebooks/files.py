"""A kernel as the content of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nbformat

from pipeline.artifacts import write_whole
from pipeline.errors import ConfigError

MAX_BYTES = 1_000_000  # Kaggle takes less than 1 MB of source


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """The slug of a kernel and the content of its files by name.

    Raises:
        ConfigError: the notebook is larger than Kaggle takes.
    """

    slug: str
    files: dict[str, bytes]

    def __post_init__(self) -> None:
        if self.notebook_size >= MAX_BYTES:
            raise ConfigError(
                f"{self.slug}.ipynb has {self.notebook_size:,} bytes, Kaggle takes less than "
                f"{MAX_BYTES:,}; move code or text out of it"
            )

    @property
    def notebook_size(self) -> int:
        """Size of the notebook in bytes."""
        return len(self.files[f"{self.slug}.ipynb"])

    def write(self, folder: Path) -> None:
        """Write the files into `folder`, each whole."""
        for name, content in self.files.items():
            write_whole(folder / name, content)

    def are_in(self, folder: Path) -> bool:
        """Whether `folder` holds exactly these files."""
        if not folder.is_dir():
            return False
        return {
            path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()
        } == self.files


def notebook_bytes(notebook: nbformat.NotebookNode) -> bytes:
    """A notebook as its file's content; the same notebook always gives the same bytes."""
    text: str = nbformat.writes(notebook)
    return (text.rstrip("\n") + "\n").encode()
