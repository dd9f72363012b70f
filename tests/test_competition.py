"""A definition's every mistake is one line that names the file, the key and what is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.competition import (
    Competition,
    competition_from,
    load_competition,
    shipped_competitions,
)
from pipeline.errors import ConfigError


def load(folder: Path, content: str | bytes, slug: str = "pets") -> Competition:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "competition.toml").write_bytes(data)
    return load_competition(slug, folder)


@pytest.mark.parametrize(
    ("content", "key", "found", "expected"),
    [
        ("classes = 5", "classes", "5 (int)", "a list of texts"),
        ('classes = "cat"', "classes", "'cat' (str)", "a list of texts"),
        ('classes = ["cat", 1]', "classes[1]", "1 (int)", "a text"),
        ("title = 3", "title", "3 (int)", "a text"),
        ("metric = ['accuracy']", "metric", "['accuracy'] (list)", "a text"),
        ("data = 5", "data", "5 (int)", "a table, [data]"),
        ("submission = ['a']", "submission", "['a'] (list)", "a table, [submission]"),
        ('[data]\nsize = "64"', "[data]: size", "'64' (str)", "a whole number"),
        ("[data]\nsize = 64.0", "[data]: size", "64.0 (float)", "a whole number"),
        ("[data]\nsize = true", "[data]: size", "True (bool)", "a whole number"),
        ("[data]\ntrain = 3", "[data]: train", "3 (int)", "a text"),
        ('[data]\nmirror = "no"', "[data]: mirror", "'no' (str)", "true or false"),
        ("[data]\nmirror = 1", "[data]: mirror", "1 (int)", "true or false"),
        ("[submission]\npositive = 1", "[submission]: positive", "1 (int)", "a text"),
    ],
)
@pytest.mark.parametrize("slug", ["pets", "digits"])
def test_a_value_of_another_type(
    tmp_path: Path, content: str, key: str, found: str, expected: str, slug: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content, slug)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "competition.toml"))
    assert f"{key} = {found}" in message
    assert message.partition("; ")[2].startswith(expected)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b'title = "K\xe4tzchen"', "is not in UTF-8"),
        (b"title =", "is not valid TOML"),
        (b"[data]\nlayuot = 'table'", r"\[data\]: unknown key 'layuot'; known keys: layout"),
        (b"[data]\nlayout = 'tables'", r"\[data\]: layout='tables' is unknown; choose from"),
        (b"[data]\nsize = 4", r"\[data\]: size=4: choose 8 to 1024"),
        (b"[data]\nresize = 'squash'", r"resize='squash' is unknown; choose from crop, pad, str"),
        (b"[data]\nlabel_separator = ''", r"\[data\]: label_separator='' separates nothing; give"),
        (b"[submission]\nvalues = 'both'", r"\[submission\]: values='both' is unknown"),
        (b'classes = ["cat", "cat"]', "classes: 'cat' appears twice"),
    ],
)
def test_other_mistakes(tmp_path: Path, content: bytes, match: str) -> None:
    with pytest.raises(ConfigError, match=rf"competition\.toml.*{match}"):
        load(tmp_path, content)


def test_good_values_of_every_type_override_key_by_key(tmp_path: Path) -> None:
    content = '\ufeffclasses = ["0", "1"]\n[data]\nsize = 64\nmirror = true\n'
    competition = load(tmp_path, content, "digits")
    assert competition.classes == ("0", "1")
    assert (competition.data.size, competition.data.mirror) == (64, True)
    assert competition.submission.values == "label"


def test_a_size_from_outside_goes_before_the_definition(tmp_path: Path) -> None:
    competition = load(tmp_path, "[data]\nsize = 64\nresize = 'pad'\n")
    assert competition.with_size(0) == competition
    assert competition.with_size(384).data.size == 384
    assert competition.with_size(384).data.resize == "pad"
    with pytest.raises(ConfigError, match="size=7: choose 8 to 1024"):
        competition.with_size(7)


@pytest.mark.parametrize("slug", shipped_competitions())
def test_a_definition_survives_as_plain_values(tmp_path: Path, slug: str) -> None:
    competition = load_competition(slug, tmp_path)
    assert competition_from(slug, competition.as_dict(), "x") == competition
