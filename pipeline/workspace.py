"""Where a checkout keeps its artefacts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """The folders of one checkout; `root` is the folder that holds data/ and submissions/."""

    root: Path = Path()

    def competition(self, slug: str) -> Path:
        """What belongs to a competition; the user's own competition.toml lies here."""
        return self.root / "data" / slug

    def raw(self, slug: str) -> Path:
        """The competition's files as downloaded, or as a person put them there."""
        return self.competition(slug) / "raw"

    def caches(self, slug: str) -> Path:
        """One folder of decoded tensors per key."""
        return self.competition(slug) / "cache"

    def folds(self, slug: str) -> Path:
        """Fold maps, shared by every run."""
        return self.competition(slug) / "folds"

    def duplicates(self, slug: str) -> Path:
        """Which training images are copies of each other: folds keep them together."""
        return self.competition(slug) / "duplicates.csv"

    def runs(self, slug: str) -> Path:
        """One folder per run."""
        return self.root / "submissions" / slug

    @property
    def weights(self) -> Path:
        """Weights to start from, a folder per network."""
        return self.root / "data" / ".weights"

    @property
    def ledger(self) -> Path:
        """One line per upload."""
        return self.root / "submissions" / "ledger.jsonl"

    @property
    def selection(self) -> Path:
        """The uploads that were chosen as final, beside the ledger."""
        return self.root / "submissions" / "selected.json"

    @property
    def lock(self) -> Path:
        """Held by the one command that works in this checkout."""
        return self.root / "data" / ".lock"
