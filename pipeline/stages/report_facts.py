"""What a run's folder says of how the run was made: plain values for its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipeline.client.ledger import Upload
from pipeline.errors import ConfigError, DataError
from pipeline.metrics.decisions import decision_of
from pipeline.report.answers import Answered
from pipeline.report.views import accuracy_and_loss, paired
from pipeline.stages.again import changed, fold_seed
from pipeline.stages.members import Member, check_every_fold
from pipeline.training.predict import views_for
from pipeline.training.run import MADE_FROM, METRICS, PSEUDO, Run
from pipeline.workspace import Workspace

_MIB = 2**20


def epochs_of(member: Member) -> list[list[dict[str, Any]]]:
    """What every epoch of every fold measured; nothing of a run that was made from others.

    Raises:
        ConfigError: a fold is missing.
        DataError: a fold's metrics are damaged.
    """
    if member.is_derived:
        return []
    check_every_fold(member)
    run = Run(member.folder, member.record)
    return [_epochs(run.fold(number) / METRICS) for number in run.folds]


def _epochs(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
        if not all({"valid_loss", "seconds"} <= epoch.keys() for epoch in epochs) or not epochs:
            raise ValueError("it lists no whole epochs")
    except (OSError, ValueError, AttributeError) as err:
        raise DataError(f"{path} is damaged ({err}); delete {path.parent} and train again") from err
    return epochs


def fold_facts(epochs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each fold: its last epoch, its time in seconds, and its peak memory in MiB or None."""
    return [
        {
            "epochs": len(fold),
            **{key: fold[-1][key] for key in ("train_loss", "valid_loss", "valid_accuracy")},
            "seconds": float(sum(epoch["seconds"] for epoch in fold)),
            "epoch_seconds": float(median(epoch["seconds"] for epoch in fold)),
            "peak_memory": max(epoch.get("peak_memory", 0) for epoch in fold) / _MIB or None,
        }
        for fold in epochs
    ]


def memory_note(folds: Sequence[dict[str, Any]], device: str) -> str:
    """What the folds' memory is, in words."""
    if any(fold["peak_memory"] is None for fold in folds):
        return "Memory was not recorded: this run is of an earlier version."
    if device == "cuda":
        return "Memory is the most that tensors held on the GPU."
    return (
        "Memory is the most that the process held so far: where one process trains fold after "
        "fold, a later fold's includes those before it."
    )


def views_facts(
    member: Member, epochs: Sequence[Sequence[dict[str, Any]]]
) -> tuple[dict[str, Any] | None, str]:
    """Out-of-fold predictions with views against the same networks' plain ones, or why not."""
    if not epochs:
        return None, ""
    plain = [_predicting(of_fold) for of_fold in epochs]
    side, full = plain[0]["side"], min(member.data.train.images.shape[1:3])
    try:
        recipe = Run(member.folder, member.record).recipe
    except ConfigError:  # what it was worth can be told all the same
        return None, (
            "An earlier version trained this run, by a recipe with other fields: with which views "
            "it predicted is not known."
        )
    views = views_for(recipe.shift_for(full), member.record["mirror"])
    if len(views) == 1:
        return None, "Images were neither shifted nor mirrored, so predictions are plain, too."
    if side != full:
        return None, (
            f"The last epoch validated images of {side} pixels, and predictions are of {full}: "
            "the two cannot be compared."
        )
    truth = member.data.train.known_labels().numpy()
    folds = []
    for number, epoch in enumerate(plain):
        rows = member.fold == number
        accuracy, loss = accuracy_and_loss(truth[rows], member.out_of_fold[rows])
        values = {f"plain_{key}": epoch[f"valid_{key}"] for key in ("accuracy", "loss")}
        folds.append({**values, "accuracy": accuracy, "loss": loss})
    facts = {
        "count": len(views),
        "folds": folds,
        "accuracy": paired([fold["accuracy"] - fold["plain_accuracy"] for fold in folds]),
        "loss": paired([fold["plain_loss"] - fold["loss"] for fold in folds]),
    }
    return facts, ""


def _predicting(epochs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The epoch whose network predicts: the one that is kept, or the last."""
    return next((epoch for epoch in epochs if epoch.get("kept")), epochs[-1])


def answered(member: Member) -> Answered:
    """The run's out-of-fold answers, by the rule in its record, beside the truth."""
    decision = decision_of(member.record, list(member.data.classes))
    table = member.out_of_fold
    return Answered(
        ids=member.data.train.ids,
        classes=member.data.classes,
        truth=member.data.train.known_labels().numpy(),
        probabilities=table,
        decided=np.asarray(decision.decide(table)),
    )


def made_facts(workspace: Workspace, record: dict[str, Any]) -> list[tuple[str, str]]:
    """What made the run, a name and a text each."""
    return [
        *(_derived(record) if MADE_FROM in record else _trained(record)),
        ("folds", folds_text(workspace, record)),
        ("made (UTC)", record["created_at"]),
    ]


def folds_text(workspace: Workspace, record: dict[str, Any]) -> str:
    """The number of folds, and what tells their map from others."""
    seed, sha256 = fold_seed(workspace, record), record["folds"]["sha256"]
    known = f"seed {seed}, " if seed is not None else ""
    return f"{record['folds']['count']}, {known}map {sha256[:8]}"


def made_by(record: dict[str, Any]) -> str:
    """What made the run, in a few words."""
    if MADE_FROM in record:
        return f"{record['refinement']['kind']} of {', '.join(_sources(record))}"
    network, recipe = record["network"], record["recipe"]
    values = "".join(f" {name}={value}" for name, value in changed(record).items())
    more = f", with pseudo-labels of {record[PSEUDO]['from']}" if PSEUDO in record else ""
    return f"{network['model']}, {network['conv']}, {recipe['name']}{values}{more}"


def _trained(record: dict[str, Any]) -> list[tuple[str, str]]:
    network, recipe = record["network"], record["recipe"]
    changes = ", ".join(f"{name} = {value}" for name, value in changed(record).items())
    asked = ", ".join(f"{name} = {value}" for name, value in record["asked"].items())
    return [
        ("network", network["model"]),
        ("convolution", network["conv"]),
        ("starts from", f"weights {network['weights'][:12]}" if network["weights"] else "nothing"),
        ("recipe", recipe["name"]),
        ("changed fields", changes or "none"),
        ("asked for", asked),
        ("seed", str(record["seed"])),
        *([("pseudo-labels", _pseudo_labels(record[PSEUDO]))] if PSEUDO in record else []),
    ]


def _pseudo_labels(made: dict[str, Any]) -> str:
    counts, sure = ", ".join(map(str, made["labels"])), made["confidence"]
    return f"of {made['from']}, from probability {sure} on: {counts} test images, by fold"


def _derived(record: dict[str, Any]) -> list[tuple[str, str]]:
    choices = {name: value for name, value in record["refinement"].items() if name != "kind"}
    rows = [
        ("refinement", record["refinement"]["kind"]),
        ("made from", ", ".join(_sources(record))),
    ]
    rows += [(name, str(value)) for name, value in choices.items()]
    if "weights" in record["parameters"]:
        weights = zip(_sources(record), record["parameters"]["weights"], strict=True)
        rows.append(("weights", ", ".join(f"{run} {weight:.3f}" for run, weight in weights)))
    if "temperature" in record["parameters"]:
        rows.append(("temperature", f"{record['parameters']['temperature']:.4f}"))
    if "decision" in record:
        values = ", ".join(f"{value:.4f}" for value in record["decision"]["values"])
        rows.append((record["decision"]["kind"], values))
    return rows


def _sources(record: dict[str, Any]) -> list[str]:
    return [source["run"] for source in record[MADE_FROM]]


def environment_facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Code, packages and machine, a name and a text each."""
    machine, commit = record["machine"], record["commit"] or "not known"
    kernel = record.get("kernel")
    return [
        ("commit", f"{commit}{', modified' if record['modified'] else ''}"),
        *([("engine", str(record["engine_version"]))] if "engine_version" in record else []),
        ("python", record["python"]),
        ("packages", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
        ("platform", machine["platform"]),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("GPUs", ", ".join(machine["gpus"]) or "none"),
        *([("kernel", f"{kernel['kernel']}/{kernel['version']}")] if kernel else []),
    ]


def points(
    uploads: Sequence[Upload], records: dict[str, dict[str, Any]], metric: str
) -> list[dict[str, Any]]:
    """Each run's last scored upload to each host, in order, for the plot of leaderboard over CV.

    Left out are runs of `records` whose CV is of another metric: it cannot stand beside theirs.
    """
    last: dict[tuple[str, str, str], Upload] = {}
    for upload in uploads:
        record = records.get(upload.run)
        same_metric = record is None or record["cv"]["metric"] == metric
        if upload.status == "COMPLETE" and upload.cv_mean is not None and same_metric:
            key = (upload.host, upload.instance, upload.run)
            last.pop(key, None)  # the order is that of what stays
            last[key] = upload
    return [
        {
            "host": upload.host,
            "instance": upload.instance,
            "run": upload.run,
            "cv": upload.cv_mean,
            "public": upload.public_score,
            "private": upload.private_score,
        }
        for upload in last.values()
    ]
