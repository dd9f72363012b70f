"""A checkout that kernels are pushed from, and what is in it afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.stages.push import push
from pipeline.stages.settings import Settings
from pipeline.stages.submit import Via


@dataclass
class Checkout:
    """A workspace with a small competition of real images in it."""

    settings: Settings

    def push(self, *, force: bool = False, via: Via = "file", budget: str = "") -> None:
        push(replace(self.settings, force=force, budget=budget), via=via)

    @property
    def folder(self) -> Path:
        (found,) = self.settings.workspace.runs("digits").iterdir()
        return found

    @property
    def record(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "push.json").read_text())
        return values

    @property
    def uploads(self) -> list[dict[str, Any]]:
        ledger = self.settings.workspace.ledger
        return [json.loads(line) for line in ledger.read_text().splitlines()]

    @property
    def log(self) -> str:
        return (self.folder / "kernel.log").read_text()

    def write_definition(self, text: str) -> None:
        path = self.settings.workspace.competition("digits") / "competition.toml"
        path.write_text(text)


def checkout_at(root: Path) -> Checkout:
    return Checkout(
        Settings(competition="digits", recipe="smoke", folds=2, host="local", root=root)
    )
