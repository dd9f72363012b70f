"""The figures to read first, for the console and the top of the report."""

from __future__ import annotations

from typing import Any

Headline = tuple[str, str, str]

_DIFFERENT = 0.7  # AUC


def headlines(findings: dict[str, Any]) -> list[Headline]:
    """(what, how much, what that means) of each part of the findings."""
    return [
        _classes(findings["classes"]),
        *_duplicates(findings["duplicates"], findings["images"]),
        _shift(findings["shift"]),
        _suspects(findings["suspects"]),
        _plain(findings["plain"]),
    ]


def next_steps(findings: dict[str, Any], grouped: bool) -> list[str]:
    """What to do about the findings, most urgent first."""
    duplicates, shift = findings["duplicates"], findings["shift"]
    steps = []
    if duplicates["with_conflicting_labels"]:
        steps.append("look at the copies with different labels in the report: one of them is wrong")
    if duplicates["train_images_with_copy_in_another_fold"] and not grouped:
        steps.append("make audit GROUP=1, then train again: new folds keep copies together")
    if shift["auc"] is not None and shift["at_least"] >= _DIFFERENT:
        steps.append(
            "the test images differ from the training images: expect the leaderboard to differ "
            "from cross-validation, and augment by what differs"
        )
    if not findings["suspects"]["run"]:
        steps.append("make train, then make audit again: it ranks suspect labels by a run")
    elif findings["suspects"]["confident"]:
        steps.append("look at the first suspect labels in the report")
    return steps or ["nothing to do: train"]


def _classes(classes: list[dict[str, Any]]) -> Headline:
    largest = max(classes, key=lambda row: row["images"])
    smallest = min(classes, key=lambda row: row["images"])
    if largest["images"] == smallest["images"]:
        return "classes", str(len(classes)), f"{largest['images']} training images of each"
    ratio = f"{largest['images'] / max(1, smallest['images']):.1f} to 1"
    reason = (
        f"{largest['class']} {largest['images']} images, {smallest['class']} {smallest['images']}"
    )
    return "classes", f"{len(classes)}, {ratio}", reason


def _duplicates(duplicates: dict[str, Any], images: dict[str, Any]) -> list[Headline]:
    across = duplicates["train_images_with_copy_in_another_fold"]
    folds = f"{across} of them in another fold" if across is not None else "no folds"
    return [
        (
            "copies",
            f"{duplicates['count']} clusters",
            f"{duplicates['exact']} exact, largest {duplicates['largest']} images, "
            f"{duplicates['with_conflicting_labels']} with conflicting labels",
        ),
        (
            "in train",
            _share(duplicates["train_images_with_copy_in_train"], images["train"]),
            f"training images with a copy in training, {folds}",
        ),
        (
            "in test",
            _share(duplicates["test_images_with_copy_in_train"], images["test"]),
            "test images with a copy in training",
        ),
    ]


def _shift(shift: dict[str, Any]) -> Headline:
    if shift["auc"] is None:
        return "train/test", "not told", shift["reason"]
    if shift["at_least"] < 0.55:
        meaning = "test images cannot be told from training images"
    elif shift["at_least"] < _DIFFERENT:
        meaning = "test images differ a little from training images"
    else:
        meaning = "test images differ from training images"
    value = f"AUC {shift['auc']:.4f}"
    return "train/test", value, f"± {shift['spread']:.4f} over folds: {meaning}"


def _suspects(suspects: dict[str, Any]) -> Headline:
    if not suspects["run"]:
        return "labels", "not checked", suspects["reason"]
    return (
        "labels",
        _share(suspects["confident"], suspects["labels"]),
        f"confidently contradicted by run {suspects['run']}, {suspects['count']} in all",
    )


def _plain(plain: dict[str, list[str]]) -> Headline:
    count = len(plain["train"]) + len(plain["test"])
    first = next((f", first {name!r}" for name in plain["train"] + plain["test"]), "")
    return "one colour", str(count), f"images that show next to nothing{first}"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.2%})"
