"""Files that came from elsewhere are data: none runs code, whatever it is called."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from pipeline.competition import load_competition
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError, DataError, PipelineError
from pipeline.metrics import metric_named
from pipeline.models.pretrained import load_weights
from pipeline.notebooks.push_copy import prepare_push
from pipeline.stages.kernel import open_kernel
from pipeline.stages.preprocess import preprocess
from pipeline.stages.starting_weights import named_weights
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.run import WEIGHTS, Network
from tests.stages.commands import write_digit_images

CPU = torch.device("cpu")


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return self.marker.touch, ()


def pickled(marker: Path) -> bytes:
    return pickle.dumps(Attack(marker), protocol=2)


def saved_by_torch(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"net.weight": torch.zeros(1), "more": Attack(marker)}, buffer)
    return buffer.getvalue()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What an attack leaves; the end of the test looks that none did."""
    return tmp_path / "attacked"


@pytest.fixture(params=[pickled, saved_by_torch])
def attack(request: pytest.FixtureRequest, marker: Path) -> bytes:
    content: bytes = request.param(marker)
    with suppress(RuntimeError):  # a bare pickle is no file of torch's, but was read by then
        torch.load(io.BytesIO(content), weights_only=False)
    assert marker.exists(), "the attack does not work"
    marker.unlink()
    return content


def load_named_weights(path: Path) -> None:
    load_weights(nn.Linear(1, 1), named_weights(str(path)))


def load_trained_fold(path: Path) -> None:
    Network(model="mnist-net", conv="subkernel", channels=1, classes=2, dropout=0).load(path.parent)


def load_tensors(path: Path) -> None:
    load_cache(path.parent)


def load_state(path: Path) -> None:
    load_checkpoint(path, CPU)


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("weights.pt", load_named_weights),
        ("weights.pth", load_named_weights),
        ("weights.safetensors", load_named_weights),
        (WEIGHTS, load_trained_fold),
        ("train.safetensors", load_tensors),
        ("checkpoint.pt", load_state),
    ],
)
def test_a_pickle_is_refused_in_one_line(
    tmp_path: Path,
    marker: Path,
    attack: bytes,
    name: str,
    load: Callable[[Path], None],
) -> None:
    path = tmp_path / name
    path.write_bytes(attack)

    with pytest.raises(PipelineError) as caught:
        load(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_checkpoint_of_plain_values_that_is_none_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "checkpoint.pt")

    with pytest.raises(DataError, match=r"is not a checkpoint \(list\); delete it and rerun"):
        load_state(tmp_path / "checkpoint.pt")


def code_that_touches(marker: Path) -> list[str]:
    """Texts that become code where one is evaluated, formatted or handed to a shell."""
    touch = f"__import__('pathlib').Path('{marker}').touch()"
    return [touch, f"$(touch {marker})", f"{{{touch}}}", f"{{{{ {touch} }}}}", f"; touch {marker}"]


def test_a_definition_is_read_as_plain_text(tmp_path: Path, marker: Path) -> None:
    for text in code_that_touches(marker):
        quoted = json.dumps(text)
        (tmp_path / "competition.toml").write_text(
            f"title = {quoted}\nmetric = {quoted}\nclasses = [{quoted}]\n"
            f"[data]\nlabel_separator = {quoted}\n"
        )

        competition = load_competition("pets", tmp_path)

        assert (competition.title, competition.classes) == (text, (text,))
        assert competition.data.label_separator == text
        with pytest.raises(ConfigError):
            metric_named(str(competition.metric))
    assert not marker.exists()


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "train/../../secret", ".."])
@pytest.mark.parametrize(
    ("table", "key"),
    [("data", "train"), ("data", "train_labels"), ("data", "test"), ("submission", "sample")],
)
def test_a_definition_names_no_file_outside_the_raw_folder(
    tmp_path: Path, table: str, key: str, path: str
) -> None:
    (tmp_path / "competition.toml").write_text(f'[{table}]\n{key} = "{path}"\n')

    with pytest.raises(ConfigError, match=rf"\[{table}\]: {key}='.*' is outside the raw folder"):
        load_competition("pets", tmp_path)


def harmful_notebook(marker: Path) -> str:
    cells = [
        nbformat.v4.new_markdown_cell("# Kernel"),
        nbformat.v4.new_code_cell(f"!touch {marker}"),
        *map(nbformat.v4.new_code_cell, code_that_touches(marker)),
    ]
    return str(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def test_a_session_runs_no_code_that_is_mounted_with_the_images(
    tmp_path: Path, marker: Path
) -> None:
    mounted = tmp_path / "inputs/my-digits"
    write_digit_images(mounted, train=60, test=5)
    code = code_that_touches(marker)[0]
    for name in ("sitecustomize.py", "train/__init__.py", "pipeline.py", "torch.py"):
        (mounted / name).write_text(code)
    (mounted / "notebook.ipynb").write_text(harmful_notebook(marker))
    (mounted / "weights.pt").write_bytes(pickled(marker))
    (mounted / "test/images.pkl").write_bytes(pickled(marker))

    workspace = open_kernel(
        "my-digits", inputs=tmp_path / "inputs", working=tmp_path / "out", scratch=tmp_path / "tmp"
    )
    cache = preprocess(workspace, load_competition("my-digits", workspace.root))

    assert len(load_cache(cache).train.ids) == 60
    assert not marker.exists()


def test_a_notebook_is_pushed_without_being_run(tmp_path: Path, marker: Path) -> None:
    (tmp_path / "kernel-metadata.json").write_text('{"id": "a/harmful", "code_file": "it.ipynb"}')
    (tmp_path / "it.ipynb").write_text(harmful_notebook(marker))

    copy = prepare_push(tmp_path, "alice", None, tmp_path / "copy")

    pushed = nbformat.read(copy / "harmful.ipynb", as_version=4)
    assert [cell.source for cell in pushed.cells[2:]] == code_that_touches(marker)
    (tmp_path / "it.ipynb").write_bytes(pickled(marker))
    with pytest.raises(DataError, match="is not a notebook"):
        prepare_push(tmp_path, "alice", None, tmp_path / "copy")
    assert not marker.exists()
