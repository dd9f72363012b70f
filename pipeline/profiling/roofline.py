"""The machine's limits, measured, and the time that a step would take at them.

Source of the model: Williams, Waterman, Patterson, Roofline (2009). Each operator takes at least
the time of its products at the matrix-product rate and of its bytes at the copy rate, whichever is
longer; the step's roofline is the sum. It tells why fewer multiply-accumulates can take longer:
a chain of small convolutions reads and writes more bytes than the one convolution it replaces.
A step can come in below its roofline where operators are fused or their data stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from pipeline.profiling.clock import Clock
from pipeline.profiling.work import OperatorWork

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """Measured rates of one machine: products in two formats [MAC/s], and copying [bytes/s].

    A copy counts its bytes twice, read and written. `macs_per_second` is in the precision of the
    measured steps.
    """

    precision: str
    macs_per_second: float
    fp32_macs_per_second: float
    bytes_per_second: float

    def seconds(self, work: Iterable[OperatorWork]) -> float:
        """Time of a step at the machine's limits."""
        return sum(
            max(each.macs / self.macs_per_second, each.bytes / self.bytes_per_second)
            for each in work
        )


def measure_roofline(clock: Clock, precision: str) -> Roofline:
    """The best of several turns: what the machine can do, not what it does on average."""
    fp32 = _product_rate(clock, "fp32")
    return Roofline(
        precision=precision,
        macs_per_second=fp32 if precision == "fp32" else _product_rate(clock, precision),
        fp32_macs_per_second=fp32,
        bytes_per_second=_copy_rate(clock),
    )


def _product_rate(clock: Clock, precision: str) -> float:
    side = 8192 if clock.device == "cuda" else 1536
    a, b = (torch.randn(side, side, device=clock.device).to(_DTYPES[precision]) for _ in range(2))
    return side**3 / _best_seconds(clock, lambda: torch.mm(a, b))


def _copy_rate(clock: Clock) -> float:
    source = torch.ones(2**28 if clock.device == "cuda" else 2**26, device=clock.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(clock, lambda: target.copy_(source))


def _best_seconds(clock: Clock, run: Callable[[], object], turns: int = 8) -> float:
    run()
    return min(clock.seconds(run) for _ in range(turns))
