"""The commands: parsing and calling, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pipeline.stages.profile_options import ProfileOptions
from pipeline.stages.settings import Settings

Options = Annotated[Settings, tyro.conf.arg(name="")]
Profile = Annotated[ProfileOptions, tyro.conf.arg(name="")]


def _stage(name: str, help_text: str) -> Callable[[Options], None]:
    def run(settings: Options) -> None:
        from pipeline.stages.chain import run_until  # heavy imports only when a stage runs

        run_until(name, settings)

    run.__doc__ = help_text
    return run


def ledger(settings: Options) -> None:
    """Print every upload: cross-validation beside public and private score."""
    from pipeline.stages.ledger import print_ledger

    print_ledger(settings.workspace)


def kernels(root: Path = Path()) -> None:
    """Write the Kaggle notebooks under kernels/ anew from the package."""
    from pipeline.stages.kernels import write_kernels

    write_kernels(root)


def weights(settings: Options) -> None:
    """Keep a network's weights to start from, here and as a private dataset for kernels."""
    from pipeline.stages.weights import make_weights

    make_weights(settings)


def push(settings: Options, via: Literal["file", "kernel"] = "file") -> None:
    """Push the variant's notebook, wait for it, check what it made, submit it, note the score.

    Args:
        via: submit the fetched file, or the kernel's version (for code competitions).
    """
    from pipeline.stages.push import push as push_kernel

    push_kernel(settings, via=via)


def summary(
    model: str = "resnet14", conv: str = "subkernel", batch: int = 1, json: bool = False
) -> None:
    """Print each layer's shapes, parameters and multiply-accumulates.

    Args:
        model: the network.
        conv: the convolution.
        batch: inputs that are counted together.
        json: print one JSON object instead of a table.
    """
    from pipeline.stages.summary import print_summary

    print_summary(model, conv, batch, as_json=json)


def profile(options: Profile) -> None:
    """Measure convolutions side by side: time, memory, and how close they come to the machine."""
    from pipeline.stages.profile import profile as measure

    measure(options)


def sweep(
    settings: Options,
    convs: str = "subkernel,channel-selection",
    seeds: str = "0",
) -> None:
    """Cross-validate every convolution with every seed, side by side.

    Args:
        convs: convolutions by name, separated by commas.
        seeds: numbers, likewise; every one trains every convolution.
    """
    from pipeline.stages.sweep import sweep as train_variants

    train_variants(settings, convs.split(","), seeds.split(","))


def calibrate(settings: Options) -> None:
    """Fit the temperature of a finished run for log loss; makes a run of its own."""
    from pipeline.stages.refine import calibrate as fit

    fit(settings)


def thresholds(settings: Options) -> None:
    """Fit how a finished run's probabilities become answers; makes a run of its own."""
    from pipeline.stages.refine import thresholds as fit

    fit(settings)


def blend(settings: Options, runs: str = "all", how: Literal["greedy", "equal"] = "greedy") -> None:
    """Blend finished runs with the same folds; makes a run of its own.

    Args:
        runs: by name, separated by commas; all takes every one that was trained.
        how: greedy chooses the weights for the competition's metric, equal gives equal ones.
    """
    from pipeline.stages.refine import blend as fit

    fit(settings, runs, how)


def select(settings: Options) -> None:
    """Propose two final submissions among the uploads, and mark them in the ledger."""
    from pipeline.stages.select import select as choose

    choose(settings)


def audit(settings: Options, group: bool = False) -> None:
    """Look for copies, suspect labels and a shift between training and test images; a report.

    The predictions of the run that is named, or of the best one, check the labels.

    Args:
        group: write data/<competition>/duplicates.csv: new folds then keep copies together.
    """
    from pipeline.stages.audit import audit as look

    look(settings, group=group)


def pseudo(settings: Options, confidence: float = 0.95) -> None:
    """Train a finished run once more, with test images that its own networks are sure of.

    Args:
        confidence: the probability from which on a test image is labelled.
    """
    from pipeline.stages.pseudo import pseudo as train_again

    train_again(settings, confidence)


def report(settings: Options, runs: Literal["one", "all"] = "one") -> None:
    """Write what a run is worth as one HTML page: the run that is named, or that of the settings.

    Args:
        runs: one, or all: one page over all runs of the competition.
    """
    from pipeline.stages.report import report as write

    write(settings, every_run=runs == "all")


def status(settings: Options, json: bool = False) -> None:
    """Say what is there, what is stale, and what `submit` would do; nothing is changed.

    Args:
        json: print one JSON object instead.
    """
    from pipeline.stages.status import print_status

    print_status(settings, as_json=json)


def verify(settings: Options) -> None:
    """Compare every artefact of the competition with the hash noted when it was made."""
    from pipeline.stages.verify import verify as check

    check(settings)


def tune(settings: Options, trials: int = 20) -> None:
    """Search better values of the recipe's fields on the first fold; rerun to go on.

    Args:
        trials: how many to have in all, unless the budget ends before.
    """
    from pipeline.stages.tune import tune as search

    search(settings, trials)


def bench(settings: Options, rounds: int = 3, growth: bool = True, json: bool = False) -> None:
    """Time the training engine beside a plain published-style loop, and on more data.

    Args:
        rounds: epochs of each, in turn.
        growth: measure also how cost grows with data and folds; large images make that long.
        json: print one JSON object instead of a table.
    """
    from pipeline.stages.bench import bench as measure

    measure(settings, rounds=rounds, as_json=json, growth=growth)


def reproduce(
    settings: Options,
    study: str = "all",
    scale: Literal["smoke", "cpu", "gpu"] = "cpu",
    seeds: str = "0",
) -> None:
    """Measure the published studies again; what is there is kept, so seeds add up. Rerun to go on.

    Args:
        study: by name, or all.
        scale: smoke (seconds), cpu (up to an hour a study and seed), gpu (the published sizes).
        seeds: numbers, separated by commas.
    """
    from pipeline.studies.reproduce import reproduce as measure

    measure(settings, study, scale, seeds.split(","))


def host(port: int = 0) -> None:
    """Keep the local competition host running and print how to point the kaggle command at it.

    Args:
        port: the port on 127.0.0.1; 0 takes a free one.
    """
    from pipeline.host.lifecycle import default_state, serve

    serve(default_state(), port)


COMMANDS: dict[str, Callable[..., Any]] = {
    "download": _stage("download", "Get the competition's files into data/<competition>/raw/."),
    "preprocess": _stage("preprocess", "Decode the images into a tensor cache."),
    "train": _stage("train", "Train every fold of one configuration into a run folder."),
    "predict": _stage("predict", "Predict the test images with test-time augmentation."),
    "submission": _stage("submission", "Write and check submission.csv."),
    "submit": _stage("submit", "Upload submission.csv and wait for the score."),
    "export": _stage("export", "Write the trained, fused network of every fold as ONNX."),
    "lr-find": _stage("lr-find", "Suggest a learning rate by a range test, with a plot."),
    "audit": audit,
    "report": report,
    "status": status,
    "ledger": ledger,
    "kernels": kernels,
    "push": push,
    "weights": weights,
    "summary": summary,
    "profile": profile,
    "calibrate": calibrate,
    "thresholds": thresholds,
    "blend": blend,
    "pseudo": pseudo,
    "select": select,
    "tune": tune,
    "bench": bench,
    "sweep": sweep,
    "verify": verify,
    "reproduce": reproduce,
    "host": host,
}


def run_command(arguments: list[str] | None = None) -> None:
    """Parse the arguments, by default those of this process, and run the command they name.

    Raises:
        PipelineError: the command failed.
        SystemExit: the arguments are wrong (2), or help was asked for (0).
    """
    tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        args=arguments,
        prog="python -m pipeline",
        description="Image competitions, from download to score.",
    )
