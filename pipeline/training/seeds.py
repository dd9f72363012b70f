"""Seeds: every random stream of a run derives from SEED and its place in the run."""

from __future__ import annotations

import hashlib


def derive_seed(*path: int | str) -> int:
    """A 63-bit seed for the stream at `path`, such as (SEED, fold, epoch)."""
    text = "/".join(str(part) for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
