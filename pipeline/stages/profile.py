"""Measure variants of a network beside the standard convolution and write what came out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from pipeline.artifacts import write_json, write_whole
from pipeline.convs import conv_names
from pipeline.errors import ConfigError
from pipeline.profiling.clock import Clock
from pipeline.profiling.measure import compare
from pipeline.profiling.plot import plot_rows
from pipeline.profiling.roofline import Roofline, measure_roofline
from pipeline.profiling.rows import Row, make_rows
from pipeline.profiling.subjects import CONTIGUOUS, Candidate, Workload, candidates
from pipeline.profiling.table import print_roofline, print_rows
from pipeline.profiling.workloads import make_workload
from pipeline.stages.profile_options import ProfileOptions
from pipeline.stages.provenance import provenance
from pipeline.training.execution import Execution, choose_execution


def profile(options: ProfileOptions) -> None:
    """Measure, print, and write `<network>-<device>-<conditions>.json` and `.png`.

    Raises:
        ConfigError: a name, the device or a number is wrong; nothing was measured.
        StorageError: the folder cannot be written.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of every memory recording
    asked = {} if options.precision == "auto" else {"precision": options.precision}
    execution = choose_execution(options.device, asked=asked)
    plan = _plan(options, execution.device)
    execution.prepare_process()  # as a training process does, so that its steps are what is timed
    machine = _machine(execution)
    roofline = measure_roofline(Clock(execution.device), execution.precision)
    if not options.json:
        print_roofline(roofline)
    listed: list[dict[str, Any]] = []
    for workload, found in plan:
        rows = _measure(workload, found, execution, roofline, options)
        objects = [asdict(row) | {"protocol": options.protocol} | machine for row in rows]
        listed += objects
        title = _title(workload, options, machine)
        name = _file_name(workload, options, machine)
        table = options.out / f"{name}.json"  # a network's name may hold dots
        write_json(table, {"roofline": asdict(roofline), "rows": objects})
        write_whole(options.out / f"{name}.png", plot_rows(title, rows))
        if not options.json:
            print_rows(title, rows)
            print(f"written: {table} and {name}.png")
    if options.json:
        print(json.dumps(listed, indent=2))


def _plan(options: ProfileOptions, device: str) -> list[tuple[Workload, list[Candidate]]]:
    """Every name is looked up before anything is measured."""
    models, convs = _names(options.models), _names(options.convs)
    for conv in convs:
        if conv not in conv_names():
            raise ConfigError(f"CONV={conv!r} is unknown; choose from {', '.join(conv_names())}")
    if not models:
        raise ConfigError("no network is named; give --models")
    plan = []
    for model in models:
        workload = make_workload(model, options.batch, device)
        found = candidates(
            workload, convs, compiled=options.compile, memory_format=options.memory_format
        )
        plan.append((workload, found))
    return plan


def _names(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(" ".join(texts).replace(",", " ").split()))


def _measure(
    workload: Workload,
    found: list[Candidate],
    execution: Execution,
    roofline: Roofline,
    options: ProfileOptions,
) -> list[Row]:
    with tqdm(total=len(found) * (options.rounds + 1), desc=workload.name, file=sys.stderr) as bar:
        measurements = compare(
            workload,
            found,
            execution,
            protocol=options.protocol,
            rounds=options.rounds,
            progress=bar.update,
        )
    return make_rows(workload, measurements, roofline, options.rounds)


def _machine(execution: Execution) -> dict[str, Any]:
    made = provenance()
    on_cuda = execution.device == "cuda"
    return {
        "device": execution.device,
        "device_name": (torch.cuda.get_device_name() if on_cuda else made["machine"]["processor"]),
        "cores": made["machine"]["cores"],
        "threads": made["machine"]["threads"],
        "precision": execution.precision,
        "torch": made["versions"]["torch"],
        "commit": made["commit"],
    }


def _title(workload: Workload, options: ProfileOptions, machine: dict[str, Any]) -> str:
    shape = " x ".join(str(size) for size in (workload.batch, *workload.shape))
    return (
        f"{workload.name}, input {shape}, {machine['precision']}, {options.memory_format}, "
        f"protocol {options.protocol}, {machine['device_name']}, {machine['threads']} threads, "
        f"torch {machine['torch']}"
    )


def _file_name(workload: Workload, options: ProfileOptions, machine: dict[str, Any]) -> str:
    """Results under other conditions lie beside each other; the same ones replace each other."""
    parts = [workload.name.replace("/", "-"), machine["device"], machine["precision"]]
    parts += [f"batch{options.batch}"] if options.batch else []
    parts += [CONTIGUOUS] if options.memory_format == CONTIGUOUS else []
    parts += ["published"] if options.protocol == "published" else []
    parts += ["compiled"] if options.compile else []
    return "-".join(parts)
