"""The report shows names as they are written, whatever they contain."""

import numpy as np

from pipeline.audit.duplicates import find_duplicates
from pipeline.audit.findings import duplicate_findings
from pipeline.audit.report import CLUSTERS_SHOWN, render_report
from pipeline.data.cache import Part, TensorCache
from tests.audit.pictures import cache_of, photographs


def test_ids_and_labels_cannot_become_markup():
    pieces = np.repeat(photographs()[:45], 2, axis=0)
    data = cache_of(pieces, pieces[:1])
    ids = [f"<i>{name}" for name in data.train.ids]
    data = TensorCache(
        Part(data.train.images, ids, data.train.labels), data.test, ("<b>cat", 'd"og')
    )
    found = duplicate_findings(data, find_duplicates(data, mirror=True), None)

    page = render_report(findings_with(found), ["train"], data)

    assert "<i>" not in page
    assert "<b>" not in page
    assert 'd"og' not in page
    assert page.count("&lt;i&gt;a0,") == 1
    assert page.count('class="group"') == CLUSTERS_SHOWN < len(found["clusters"])
    assert page.count("different labels</span>") == CLUSTERS_SHOWN


def test_of_a_large_cluster_an_image_of_every_label_and_part_is_shown():
    labels = np.array([0] * 8 + [1])
    data = cache_of(np.repeat(photographs()[:1], 9, axis=0), photographs()[:1], labels)
    found = duplicate_findings(data, find_duplicates(data, mirror=True), None)

    page = render_report(findings_with(found), ["train"], data)

    assert "and 4 more" in page
    assert all(shown in page for shown in ("train a0: cat", "train a8: dog", "test b0"))


def findings_with(duplicates):
    return {
        "competition": "pets",
        "cache": "0",
        "images": {"train": 90, "test": 1, "form": "64 x 64 x 3"},
        "classes": [{"class": "<b>cat", "images": 45, "share": 0.5}],
        "duplicates": {**duplicates, "folds": "none", "mirror": True},
        "shift": {"auc": None, "reason": "too few images"},
        "suspects": {"run": None, "reason": "no run", "count": 0, "confident": 0, "ranked": []},
        "plain": {"train": [], "test": []},
        "files": {"sizes": [], "formats": []},
    }
