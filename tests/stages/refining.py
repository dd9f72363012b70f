"""A checkout with small runs on digits, trained and predicted."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.stages.chain import run_until
from pipeline.stages.settings import Settings


@dataclass(frozen=True)
class Refinery:
    """The checkout and the names of its trained runs."""

    settings: Settings
    runs: tuple[str, ...]

    def copy(self, root: Path) -> Refinery:
        """The same in the new folder `root`, to be added to or spoilt."""
        shutil.copytree(self.settings.root, root)
        return replace(self, settings=self.settings.with_root(root))

    def with_run(self, name: str) -> Settings:
        return replace(self.settings, run=name)

    def folder(self, name: str) -> Path:
        return self.settings.workspace.runs(self.settings.competition) / name

    def record(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder(name) / "run.json").read_text())
        return values

    def change_record(self, name: str, **changes: Any) -> None:
        path = self.folder(name) / "run.json"
        path.write_text(json.dumps({**self.record(name), **changes}))

    def set_metric(self, metric: str) -> None:
        """Let the competition be scored otherwise; the sample's values fit any such metric."""
        path = self.settings.workspace.competition("digits") / "competition.toml"
        path.write_text(f'metric = "{metric}"\n')

    def ask_for_probabilities(self) -> None:
        """Let the competition be scored by log loss, and its sample hold a column per class."""
        path = self.settings.workspace.competition("digits") / "competition.toml"
        path.write_text('metric = "log_loss"\n[submission]\nvalues = "probabilities"\n')
        raw = self.settings.workspace.raw("digits")
        (raw / "manifest.json").unlink()  # as files that were put there by hand
        for sample in raw.glob("sample*.csv"):
            ids = pd.read_csv(sample, dtype=str)["id"]
            table = pd.DataFrame({"id": ids, **dict.fromkeys("0123456789", "0.1")})
            table.to_csv(sample, index=False)


def train_small_runs(root: Path) -> Refinery:
    """Two variants with the same folds, in seconds."""
    settings = Settings(
        competition="digits", recipe="smoke", set="epochs=3", folds=3, host="local", root=root
    )
    for conv in ("subkernel", "channel-selection"):
        run_until("predict", replace(settings, conv=conv))
    names = sorted(path.parent.name for path in root.glob("submissions/digits/*/run.json"))
    return Refinery(settings, tuple(names))
