"""The findings as one HTML file that needs nothing else."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipeline.audit.headlines import headlines
from pipeline.audit.inventory import SIZES_SHOWN
from pipeline.data.cache import TensorCache
from pipeline.pages import picture, render_page

CLUSTERS_SHOWN = 40
_OF_A_CLUSTER = 6
SUSPECTS_SHOWN = 40


def render_report(findings: dict[str, Any], steps: list[str], data: TensorCache) -> str:
    """The report: tables, the first clusters and suspects with pictures, light and dark."""
    clusters = _most_telling(findings["duplicates"]["clusters"])
    row_of = {name: row for row, name in enumerate(data.train.ids)}
    return render_page(
        Path(__file__).with_name("templates"),
        "report.html",
        findings=findings,
        headlines=headlines(findings),
        steps=steps,
        clusters=[_with_pictures(cluster, data) for cluster in clusters],
        suspects=[
            {**suspect, "picture": picture(data.train.images[row_of[suspect["id"]]])}
            for suspect in findings["suspects"]["ranked"][:SUSPECTS_SHOWN]
        ],
        sizes_shown=SIZES_SHOWN,
    )


def _most_telling(clusters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Clusters with conflicting labels before those of both parts, before the others."""

    def is_across(cluster: dict[str, Any]) -> bool:
        return len({image["part"] for image in cluster["images"]}) > 1

    conflicting = (c for c in clusters if c["conflicting_labels"])
    across = (c for c in clusters if not c["conflicting_labels"] and is_across(c))
    others = (c for c in clusters if not c["conflicting_labels"] and not is_across(c))
    return list(islice(chain(conflicting, across, others), CLUSTERS_SHOWN))


def _with_pictures(cluster: dict[str, Any], data: TensorCache) -> dict[str, Any]:
    parts = {"train": data.train, "test": data.test}
    images = [
        {**image, "picture": picture(parts[image["part"]].images[image["row"]])}
        for image in _of_every_kind(cluster["images"])[:_OF_A_CLUSTER]
    ]
    return {**cluster, "images": images, "more": len(cluster["images"]) - len(images)}


def _of_every_kind(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each part and label ahead of the others, so that what conflicts is seen."""
    first: dict[tuple[str, str | None], dict[str, Any]] = {}
    for image in images:
        first.setdefault((image["part"], image["label"]), image)
    return sorted(images, key=lambda image: image is not first[image["part"], image["label"]])
