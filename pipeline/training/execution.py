"""Where and how a run computes: decided once, with reasons, and stored with the run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.convs import native_conv_problem
from pipeline.errors import ConfigError
from pipeline.models.native_norm import native_norms_problem
from pipeline.training.compilation import compile_decision
from pipeline.training.cpu import keep_freed_memory, usable_threads
from pipeline.training.precision import DTYPES, convs_on_tiny_images, cpu_precision, precision_for

DEVICES = ("auto", "cpu", "cuda")
_ASKED = "asked for"
_NO_CUDA = "no CUDA device is available"


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Where and how a run computes.

    Attributes:
        device: cpu or cuda.
        precision: fp32, bf16 or fp16; the format of convolutions and matrix products.
        compile: whether the training step goes through `torch.compile`.
        graphs: whether training steps are recorded as a CUDA graph and replayed.
        norms: whose code computes batch norms in training, native (this project's) or torch.
        micro_batch: images that pass through the network at once; 0 for the whole batch.
        threads: of the CPU, for each process that trains.
        folds_at_once: how many folds train on a device at the same time, each in its process.
        together: whether several processes train each fold (LAUNCH=ddp).
        convs: the execution of each convolution by its path in the network.
        reasons: why, by field.
    """

    device: str
    precision: str
    compile: bool = False
    graphs: bool = False
    norms: str = "torch"
    micro_batch: int = 0
    threads: int = 1
    folds_at_once: int = 1
    together: bool = False
    convs: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def is_available(self) -> bool:
        """Whether this machine has the device, and the native code that was decided on.

        Raises:
            ConfigError: as `missing`.
        """
        return self.missing() is None

    def missing(self) -> str | None:
        """Why this machine cannot compute as decided; None if it can.

        Raises:
            ConfigError: it has a GPU that cannot run this torch, as another session may have had.
        """
        if self.norms == "native" and native_norms_problem() is not None:
            return native_norms_problem()
        if problems := list(filter(None, map(native_conv_problem, self.convs.values()))):
            return problems[0]
        if self.device == "cuda":
            if not torch.cuda.is_available():
                return _NO_CUDA
            check_cuda()
        return None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which forward passes run."""
        kind = torch.device(self.device).type
        dtype = DTYPES[self.precision]
        return torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler; it does nothing unless the format is fp16."""
        kind = torch.device(self.device).type
        return torch.amp.GradScaler(kind, enabled=self.precision == "fp16")

    def prepare_process(self, threads: int | None = None) -> None:
        """Apply what belongs to a process: CPU threads, and memory that stays warm."""
        if self.device == "cpu":
            torch.set_num_threads(threads or self.threads)
            keep_freed_memory()

    def table(self) -> list[tuple[str, str, str]]:
        """One (decision, value, reason) each."""
        values = {"device": self.device, "precision": self.precision, "compile": self.compile}
        if self.device == "cpu":
            values |= {"norms": self.norms, "threads": self.threads}
        else:
            values |= {"graphs": self.graphs}
        rows = [(name, _word(value), self.reasons.get(name, "")) for name, value in values.items()]
        if self.folds_at_once > 1:
            rows.append(("folds at once", str(self.folds_at_once), _ASKED))
        at_once = str(self.micro_batch) if self.micro_batch else "all"
        rows.append(("images at once", at_once, self.reasons.get("micro_batch", "")))
        layout = ("memory format", "channels_last", "the cache holds images that way")
        return [*rows, layout, *_conv_row(self.convs, self.reasons.get("convs"))]


def _word(value: Any) -> str:
    return (
        {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )


def _conv_row(convs: Mapping[str, str], reason: str | None) -> list[tuple[str, str, str]]:
    counts = {name: list(convs.values()).count(name) for name in sorted(set(convs.values()))}
    if len(counts) == 1 and "folded" in counts:
        return [("convolutions", "folded", reason or "no other execution was faster")]
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [("convolutions", text, reason or "each timed at its own shape")] if counts else []


def choose_execution(
    device: str = "auto", *, pixels: float = 0, asked: Mapping[str, str] | None = None
) -> Execution:
    """The best execution for this machine.

    Args:
        device: auto, cpu or cuda.
        pixels: how many the run trains on in all; decides whether compiling pays.
        asked: what the user decided himself: precision, compile (on, off), graphs (on, off), norms,
            micro_batch, threads, folds_at_once.

    Raises:
        ConfigError: there is no such device or value, or the device cannot run this torch.
    """
    asked = dict(asked or {})
    device, why_device = _device(asked.pop("device", device))
    precision, why_precision = _precision(device)
    if "precision" in asked:
        precision, why_precision = _one_of("precision", asked, list(DTYPES)), _ASKED
    threads, why_threads = usable_threads()
    if "threads" in asked:
        threads, why_threads = _count("threads", asked["threads"]), _ASKED
    norms, why_norms = _norms(device, asked)
    if "compile" in asked:
        compile_, why_compile = _one_of("compile", asked, ["on", "off"]) == "on", _ASKED
    else:
        compile_, why_compile = compile_decision(device, pixels, native_norms=norms == "native")
    graphs, why_graphs = _graphs(device, asked)
    micro_batch, why_micro_batch = 0, "halved where memory runs out"
    if "micro_batch" in asked:
        micro_batch, why_micro_batch = _count("micro_batch", asked["micro_batch"]), _ASKED
    reasons = {
        "device": why_device,
        "precision": why_precision,
        "compile": why_compile,
        "graphs": why_graphs,
        "norms": why_norms,
        "micro_batch": why_micro_batch,
        "threads": why_threads,
    }
    return Execution(
        device=device,
        precision=precision,
        compile=compile_,
        graphs=graphs,
        norms=norms,
        micro_batch=micro_batch,
        threads=threads,
        folds_at_once=_count("folds_at_once", asked.get("folds_at_once", "1")),
        reasons=reasons,
    )


def for_network(
    execution: Execution, model: nn.Module, images: Tensor, asked: Mapping[str, str]
) -> Execution:
    """The execution with a number format in which this network trains correctly.

    `images` are a few of the smallest size that it will be trained on; what was asked for stays.
    """
    if execution.device != "cpu" or execution.precision != "bf16" or "precision" in asked:
        return execution
    convs = convs_on_tiny_images(model, images)
    if not convs:
        return execution
    reason = (
        f"{len(convs)} convolutions see images half their kernel's size or less, first {convs[0]}; "
        "in bf16 CPUs get wrong gradients"
    )
    reasons = {**execution.reasons, "precision": reason}
    return replace(execution, precision="fp32", reasons=reasons)


def with_convs(execution: Execution, convs: Mapping[str, str], *, asked: bool = False) -> Execution:
    """The same execution with the convolutions' own decided: by timing, or as they were asked."""
    reasons = {**execution.reasons, "convs": _ASKED} if asked else execution.reasons
    return replace(execution, convs=dict(convs), reasons=reasons)


def for_group(execution: Execution) -> Execution:
    """The execution as processes that train a fold together can follow it.

    Their norms and gradients wait for each other, which no compiled, recorded or native step does.
    """
    decided: dict[str, Any] = {"compile": False, "graphs": False, "norms": "torch"}
    reasons = {**execution.reasons, **dict.fromkeys(decided, "LAUNCH=ddp")}
    return replace(execution, together=True, reasons=reasons, **decided)


def _device(name: str) -> tuple[str, str]:
    if name not in DEVICES:
        raise ConfigError(f"device={name!r} is unknown; choose from {', '.join(DEVICES)}")
    if name == "cpu":
        return "cpu", _ASKED
    if not torch.cuda.is_available():
        if name == "cuda":
            raise ConfigError(f"{_NO_CUDA}; choose cpu or auto")
        return "cpu", _NO_CUDA
    check_cuda()
    return "cuda", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"


def check_cuda(device: str = "cuda") -> None:
    """Run a real kernel: a GPU that is too old for this torch is listed as available.

    Raises:
        ConfigError: the device cannot run it.
    """
    try:
        torch.ones(8, 8, device=device).square().sum().item()
    except RuntimeError as err:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else device
        first = next(iter(str(err).strip().splitlines()), "no message")
        raise ConfigError(
            f"{name} cannot run torch {torch.__version__} ({first}); choose SET='device=cpu', "
            "another accelerator, or a torch built for this GPU"
        ) from err


def _precision(device: str) -> tuple[str, str]:
    if device == "cuda":
        return precision_for(torch.cuda.get_device_capability())
    return cpu_precision()


def _graphs(device: str, asked: Mapping[str, str]) -> tuple[bool, str]:
    if "graphs" not in asked:
        return device == "cuda", "a step is recorded, then started as one"
    graphs = _one_of("graphs", asked, ["on", "off"]) == "on"
    if graphs and device != "cuda":
        raise ConfigError(f"graphs=on is not possible on {device}; choose graphs=off")
    return graphs, _ASKED


def _norms(device: str, asked: Mapping[str, str]) -> tuple[str, str]:
    """Native norms wherever there can be some, unless the step is compiled with torch's."""
    problem = _native_norms_problem(device, asked)
    if "norms" in asked:
        norms = _one_of("norms", asked, ["native", "torch"])
        if norms == "native" and problem is not None:
            raise ConfigError(f"norms=native is not possible: {problem}; choose norms=torch")
        return norms, _ASKED
    return ("torch", problem) if problem else ("native", "norm, sum and ReLU in one step")


def _native_norms_problem(device: str, asked: Mapping[str, str]) -> str | None:
    if device != "cpu":
        return f"{device} has its own"
    if asked.get("compile") == "on":
        return "compiled with the step"
    return native_norms_problem()


def _one_of(name: str, asked: Mapping[str, str], choices: list[str]) -> str:
    if asked[name] not in choices:
        raise ConfigError(f"{name}={asked[name]!r} is unknown; choose from {', '.join(choices)}")
    return asked[name]


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name}={text!r}: a whole number from 1")
    return int(text)
