"""kernel-metadata.json, with every key written: what is left out, the client decides.

The client's own defaults are unsafe here: without the key a kernel gets internet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.notebooks.slugs import title_of

METADATA = "kernel-metadata.json"
OWNER = "OWNER"  # stands for the account; the copy that is pushed has the real one


def kernel_metadata(slug: str, competition: str, datasets: Sequence[str] = ()) -> dict[str, Any]:
    """The metadata of a private GPU kernel without internet, on the competition's data.

    `datasets` are the slugs of the owner's own datasets that it reads.
    """
    return {
        "id": f"{OWNER}/{slug}",
        "title": title_of(slug),
        "code_file": f"{slug}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",  # two T4s
        "docker_image_pinning_type": "original",
        "keywords": [],
        "dataset_sources": [f"{OWNER}/{dataset}" for dataset in datasets],
        "competition_sources": [competition],
        "kernel_sources": [],
        "model_sources": [],
    }
