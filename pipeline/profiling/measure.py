"""Candidates measured side by side, in interleaved runs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch._dynamo.config

from pipeline.profiling.clock import Clock
from pipeline.profiling.live_set import live_set, resident_bytes
from pipeline.profiling.protocols import INFERENCE, PROTOCOLS, Protocol
from pipeline.profiling.subjects import Candidate, Execution, Subject, Workload
from pipeline.profiling.work import OperatorWork, count_work

_SHORTEST_SECONDS = 0.05
_MOST_REPEATS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a candidate needs, apart from time; bytes, and multiply-accumulates of the batch.

    `kept_bytes` is what one forward pass leaves alive for backward. The peaks are those of
    `live_set` with what the step found when it began.
    """

    parameters: int
    model_bytes: int
    chosen: dict[str, int]
    forward_macs: int
    step_work: list[OperatorWork]
    peak_bytes: int
    kept_bytes: int
    inference_peak_bytes: int


@dataclass(kw_only=True, slots=True)
class Measurement:
    """What is known of one candidate; `seconds` holds, by phase, one value per round.

    `failure` tells why there is no more.
    """

    candidate: Candidate
    footprint: Footprint | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failure: str | None = None

    def step_seconds(self) -> list[float]:
        """The whole step, all phases but inference, by round."""
        phases = [values for phase, values in self.seconds.items() if phase != "inference"]
        return [sum(parts) for parts in zip(*phases, strict=True)]


def compare(
    workload: Workload,
    candidates: Sequence[Candidate],
    execution: Execution,
    *,
    protocol: str = "step",
    rounds: int = 7,
    progress: Callable[[], object] = lambda: None,
) -> list[Measurement]:
    """Measure every candidate once per round, in an order that is shuffled for each round.

    A candidate that fails keeps its reason and is left out of the remaining rounds. `progress`
    is called once when a candidate is ready and once for each of its rounds.
    """
    # Every candidate is another network of the same classes, so the same code is compiled often.
    with torch._dynamo.config.patch(recompile_limit=8 * len(candidates)):
        runners = [
            _Runner(workload, candidate, execution, PROTOCOLS[protocol]) for candidate in candidates
        ]
        order = random.Random(0)
        for work in [_Runner.prepare, *[_Runner.measure] * rounds]:
            for runner in order.sample(runners, len(runners)):
                runner.attempt(work)
                progress()
    return [runner.measurement for runner in runners]


class _Runner:
    """One candidate on its way through the rounds."""

    def __init__(
        self, workload: Workload, candidate: Candidate, execution: Execution, protocol: Protocol
    ) -> None:
        self.measurement = Measurement(candidate=candidate)
        self._workload, self._execution, self._protocol = workload, execution, protocol
        self._clock = Clock(execution.device)
        self._subject: Subject | None = None
        self._repeats: dict[Protocol, int] = {}

    def attempt(self, work: Callable[[_Runner], None]) -> None:
        if self.measurement.failure is not None:
            return
        try:
            work(self)
        except Exception as err:  # what stops one candidate is its result, not the others' end
            reason = next(iter(str(err).strip().splitlines()), "")
            self.measurement.failure = f"{type(err).__name__}: {reason}"
            self._subject = None

    def prepare(self) -> None:
        """Build the candidate, run it warm, and take everything that needs no rounds."""
        candidate = self.measurement.candidate
        subject = Subject(self._workload, candidate, self._execution)
        forward_macs = sum(each.macs for each in count_work(subject.forward))
        work = count_work(lambda: self._protocol.run(subject, _no_mark))
        if candidate.compiled:
            subject.compile()
        for protocol in (self._protocol, INFERENCE):
            self._repeats[protocol] = self._warm_up(subject, protocol)
        self.measurement.footprint = _footprint(subject, self._protocol, forward_macs, work)
        self._subject = subject

    def _warm_up(self, subject: Subject, protocol: Protocol) -> int:
        """Run until nothing is made for the first time; how many runs to time as one."""

        def run() -> object:
            return protocol.run(subject, _no_mark)

        run()
        seconds = self._clock.seconds(run)
        if seconds < _SHORTEST_SECONDS:
            seconds = min(seconds, self._clock.seconds(run))
        return min(_MOST_REPEATS, math.ceil(_SHORTEST_SECONDS / max(seconds, 1e-6)))

    def measure(self) -> None:
        """One round: seconds per phase, and of the whole step."""
        assert self._subject is not None
        for protocol, repeats in self._repeats.items():
            for phase, value in self._time(self._subject, protocol, repeats).items():
                self.measurement.seconds.setdefault(phase, []).append(value)

    def _time(self, subject: Subject, protocol: Protocol, repeats: int) -> dict[str, float]:
        if repeats > 1:
            protocol.run(subject, _no_mark)  # the caches still hold another candidate's data
        self._clock.mark()
        for _ in range(repeats):
            protocol.run(subject, self._clock.mark)
        intervals = self._clock.intervals()
        phases = len(protocol.phases)
        return {
            phase: sum(intervals[index::phases]) / repeats
            for index, phase in enumerate(protocol.phases)
        }


def _no_mark() -> None:
    pass


def _footprint(
    subject: Subject, protocol: Protocol, forward_macs: int, step_work: list[OperatorWork]
) -> Footprint:
    network, device = subject.network, subject.execution.device
    step = live_set(lambda: protocol.run(subject, _no_mark), device)
    forward = live_set(subject.forward, device)
    inference = live_set(subject.infer, device)
    found = resident_bytes(network, subject.optimizer, subject.input)
    return Footprint(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        model_bytes=resident_bytes(network),
        chosen=subject.chosen,
        forward_macs=forward_macs,
        step_work=step_work,
        peak_bytes=found + step.peak,
        kept_bytes=forward.left,
        inference_peak_bytes=resident_bytes(subject.deployed, subject.input) + inference.peak,
    )
