"""The figures to read first, and what follows from them."""

from pipeline.audit.headlines import headlines, next_steps

FINDINGS = {
    "images": {"train": 1000, "test": 200},
    "classes": [
        {"class": "cat", "images": 900, "share": 0.9},
        {"class": "dog", "images": 100, "share": 0.1},
    ],
    "duplicates": {
        "count": 12,
        "exact": 3,
        "largest": 4,
        "train_images_with_copy_in_train": 20,
        "train_images_with_copy_in_another_fold": 15,
        "test_images_with_copy_in_train": 5,
        "with_conflicting_labels": 0,
    },
    "shift": {"auc": 0.68, "spread": 0.22, "at_least": 0.48},
    "suspects": {"run": "subkernel-1", "labels": 4000, "count": 40, "confident": 8},
    "plain": {"train": [], "test": ["x"]},
}


def test_the_headlines_hold_the_figures_and_what_they_mean():
    rows = {name: (value, reason) for name, value, reason in headlines(FINDINGS)}

    assert rows["classes"] == ("2, 9.0 to 1", "cat 900 images, dog 100")
    assert rows["copies"][0] == "12 clusters"
    assert rows["in train"][0] == "20 (2.00%)"
    assert rows["in train"][1].endswith("15 of them in another fold")
    assert rows["in test"][0] == "5 (2.50%)"
    assert rows["train/test"][0] == "AUC 0.6800"
    assert "cannot be told" in rows["train/test"][1]  # so few images show nothing
    assert rows["labels"][0] == "8 (0.20%)"  # each image has several
    assert rows["one colour"] == ("1", "images that show next to nothing, first 'x'")


def test_the_next_steps_follow_from_the_findings():
    fine = {
        **FINDINGS,
        "duplicates": {**FINDINGS["duplicates"], "train_images_with_copy_in_another_fold": 0},
        "suspects": {"run": "subkernel-1", "count": 3, "confident": 0},
    }
    shifted = {**fine, "shift": {"auc": 0.9, "spread": 0.01, "at_least": 0.89}}

    assert [step.split(":")[0] for step in next_steps(FINDINGS, grouped=False)] == [
        "make audit GROUP=1, then train again",
        "look at the first suspect labels in the report",
    ]
    assert "GROUP=1" not in " ".join(next_steps(FINDINGS, grouped=True))
    assert next_steps(fine, grouped=False) == ["nothing to do: train"]
    assert next_steps(shifted, grouped=False)[0].startswith("the test images differ")
