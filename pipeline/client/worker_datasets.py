"""The worker's operations on datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.client.worker_api import signed_in_api

PAGE_SIZE = 100


def get_status(dataset: str) -> str:
    """What the host does with the newest version."""
    return str(signed_in_api().dataset_status(dataset))


def list_files(dataset: str) -> list[str]:
    """Names of the newest version's files."""
    names: list[str] = []
    token = None
    while token != "":
        page = signed_in_api().dataset_list_files(dataset, token, PAGE_SIZE)
        if page.error_message:
            raise ValueError(page.error_message)
        names += [file.name for file in page.dataset_files]
        token = page.next_page_token or ""
    return names


def save(folder: str, notes: str, is_new: bool) -> str:
    """Make the folder's files a private dataset, or its next version.

    Returns what the host says against it: the client prints an error and goes on.
    """
    api = signed_in_api()
    if is_new:
        reply = api.dataset_create_new(folder, public=False, quiet=True)
    else:
        reply = api.dataset_create_version(folder, notes, quiet=True)
    return str(reply.error or "")


OPERATIONS: dict[str, Callable[..., Any]] = {
    "dataset_status": get_status,
    "dataset_files": list_files,
    "save_dataset": save,
}
