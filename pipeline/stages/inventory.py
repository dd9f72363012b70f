"""What a checkout holds of a competition, and what of it is out of date; nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, is_complete, read_json, sha256_of
from pipeline.client.ledger import Ledger, Upload
from pipeline.errors import PipelineError
from pipeline.stages.download import raw_state
from pipeline.stages.kernels import KERNELS, committed_kernels
from pipeline.stages.members import REFINE_VERSION, is_finished
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.push_record import GENERATED, PushFolder
from pipeline.stages.push_record import RECORD as PUSH
from pipeline.stages.settings import Settings
from pipeline.stages.submission import SUBMISSION
from pipeline.stages.train import ENGINE_VERSION
from pipeline.training.run import MADE_FROM, OUT_OF_FOLD, RECORD, Run


def raw_inventory(settings: Settings) -> dict[str, Any]:
    """The raw folder: whose files they are, how many and how large."""
    raw = settings.workspace.raw(settings.competition)
    state: str
    try:
        state = raw_state(raw, settings.host)[0]
    except PipelineError as err:  # of the host that was asked for, which `next` tells
        state = f"not told: {err}"
    files = (
        [path for path in raw.rglob("*") if path.is_file() and path != raw / MANIFEST]
        if raw.is_dir()
        else []
    )
    size = sum(path.stat().st_size for path in files)
    return {"state": state, "files": len(files), "bytes": size}


def cache_inventory(settings: Settings, current: Path | None) -> list[dict[str, Any]]:
    """Every cache by key; `current` is that of the files and the definition as they are now.

    `stale` says why a cache is of no use any more; None of one that is, or may be.
    """
    folder = settings.workspace.caches(settings.competition)
    caches = []
    for path in sorted(folder.glob("[!.]*")) if folder.is_dir() else []:
        stale = None
        if not is_complete(path):
            stale = "incomplete"
        elif current is not None and path != current:
            stale = "of other files, another definition or another SIZE"
        caches.append({"key": path.name, "current": path == current, "stale": stale})
    return caches


def run_inventory(
    settings: Settings, cache: Path | None, maps: dict[str, str] | None
) -> list[dict[str, Any]]:
    """Every run: its score, how far it is, its uploads, and what makes it stale.

    `cache` and `maps` are those of the files as they are now, None where that is not known.
    """
    uploads = Ledger(settings.workspace.ledger).uploads()
    folder = settings.workspace.runs(settings.competition)
    runs = []
    for path in sorted(folder.glob(f"*/{RECORD}")):
        record = read_json(path)
        of_run = [u for u in uploads if (u.competition, u.run) == (folder.name, path.parent.name)]
        runs.append(
            {
                "run": path.parent.name,
                "cv": record.get("cv"),
                "missing_folds": _missing_folds(path.parent, record),
                **_finished_stages(path.parent, record),
                "uploads": [_upload(upload) for upload in of_run],
                "stale": stale_reasons(path.parent, record, cache, maps),
            }
        )
    return runs


def kernel_inventory(settings: Settings) -> list[dict[str, Any]]:
    """Every folder of the competition under kernels/, and what the notebook in it is.

    `state` is current, stale (the package makes another one now), absent, or foreign where
    `make kernels` writes no such folder. `pushed` is its last push as it is; None: there was none.
    """
    folder = settings.root / KERNELS / settings.competition
    states = {path.name: "foreign" for path in sorted(folder.glob("[!.]*")) if path.is_dir()}
    for name, kernel in committed_kernels(settings.competition):
        state = "current" if kernel.are_in(folder / name) else "stale"
        states[name] = state if name in states else "absent"
    pushes = _pushes(settings)
    return [
        {"kernel": name, "state": state, "pushed": _last_push(pushes, folder / name)}
        for name, state in states.items()
    ]


def _pushes(settings: Settings) -> list[PushFolder]:
    """The pushes that the host gave a version, the latest last."""
    runs = settings.workspace.runs(settings.competition)
    folders = [PushFolder(path.parent) for path in runs.glob(f"*/{PUSH}")]
    pushed = [folder for folder in folders if folder.record.pushed_at]
    return sorted(pushed, key=lambda folder: folder.record.pushed_at or "")


def _last_push(pushes: list[PushFolder], kernel: Path) -> dict[str, Any] | None:
    content = _content(kernel)
    same = [push.record for push in pushes if content == _content(push.path / GENERATED)]
    if not content or not same:
        return None
    last = same[-1]
    return {"version": str(last.pushed), "host": last.host, "pushed_at": last.pushed_at}


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def stale_reasons(
    run: Path, record: dict[str, Any], cache: Path | None, maps: dict[str, str] | None
) -> list[str]:
    """Why what stands in the run would be another number today."""
    reasons = []
    if record.get("engine_version", ENGINE_VERSION) != ENGINE_VERSION:
        reasons.append(f"engine {record['engine_version']}, now {ENGINE_VERSION}")
    if record.get("refine_version", REFINE_VERSION) != REFINE_VERSION:
        reasons.append(f"refined by version {record['refine_version']}, now {REFINE_VERSION}")
    if cache is not None and record.get("cache") != cache.name:
        reasons.append(f"made from cache {record.get('cache')}, now {cache.name}")
    elif maps is not None and record["folds"]["sha256"] not in maps.values():
        reasons.append("on folds of other images or groups, or whose map is gone")
    changed = [s["run"] for s in record.get(MADE_FROM, []) if not _is_as_it_was(run.parent, s)]
    if changed:
        reasons.append(f"{', '.join(changed)}, which it was made from, changed or is gone")
    return reasons


def _is_as_it_was(runs: Path, source: dict[str, str]) -> bool:
    path = runs / source["run"] / OUT_OF_FOLD
    return path.exists() and sha256_of(path) == source["oof_sha256"]


def _missing_folds(folder: Path, record: dict[str, Any]) -> list[int]:
    return [] if MADE_FROM in record else Run(folder, record).missing_folds()


def _finished_stages(folder: Path, record: dict[str, Any]) -> dict[str, bool]:
    return {
        "trained": is_finished(folder, record),
        "predicted": (folder / PREDICTIONS).exists(),
        "submission": (folder / SUBMISSION).exists(),
    }


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "ref": upload.ref,
        "host": upload.host,
        "status": upload.status,
        "public": upload.public_score,
        "private": upload.private_score,
        "submitted_at": upload.submitted_at,
    }
