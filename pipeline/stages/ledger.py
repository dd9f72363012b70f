"""Show the ledger: cross-validation beside the leaderboards."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipeline.client.ledger import Ledger, Upload
from pipeline.client.selection import Selection
from pipeline.workspace import Workspace

_WIDTH_OF_A_FILE = 240


def print_ledger(workspace: Workspace) -> None:
    """Print a line per upload: CV mean ± std beside the public and the private score.

    Those that `make select` chose are marked with their place.

    Raises:
        DataError: a line of the ledger is damaged, or the selection beside it.
    """
    uploads = Ledger(workspace.ledger).uploads()
    if not uploads:
        print(f"no uploads yet: {workspace.ledger} appears with the first `make submit`")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("submitted (UTC)", "competition", "run", "host", "ref"):
        table.add_column(heading, overflow="fold")
    for heading in ("CV mean ± std", "public", "private"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("selected")
    selection = Selection(workspace.selection)
    for upload in uploads:
        table.add_row(*_row(upload), str(selection.place_of(upload) or ""))
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width; folded values would be hard to search.
        console = Console(width=_WIDTH_OF_A_FILE)
    console.print(table)


def _row(upload: Upload) -> tuple[str, ...]:
    status = {"PENDING": "waiting", "ERROR": "failed", "COMPLETE": "-"}[upload.status]
    return (
        upload.submitted_at.replace("T", " ").removesuffix("Z"),
        upload.competition,
        upload.run,
        upload.host,
        str(upload.ref),
        _cv(upload),
        status if upload.public_score is None else f"{upload.public_score:.4f}",
        status if upload.private_score is None else f"{upload.private_score:.4f}",
    )


def _cv(upload: Upload) -> str:
    if upload.cv_mean is None or upload.cv_std is None:
        return "-"
    return f"{upload.cv_mean:.4f} ± {upload.cv_std:.4f}"
