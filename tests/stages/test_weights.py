"""The weights stage against the real local host, up to a kernel that starts from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.artifacts import sha256_of
from pipeline.errors import ConfigError, DataError, HostError
from pipeline.host.lifecycle import local_host
from pipeline.host.services import Services
from pipeline.host.state import State
from pipeline.stages import kernel_session
from pipeline.stages.kernel import attached_weights
from pipeline.stages.push import push
from pipeline.stages.settings import Settings
from pipeline.stages.weights import make_weights
from tests.host.pushing import needs_sandbox
from tests.stages.commands import Command

MODEL = "test_vit.r160_in1k"
SLUG = "test-vit-r160-in1k-weights"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """A host that runs as long as the test: no command has to start one."""
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(tmp_path / "state"))
    with local_host(state=tmp_path / "state"):
        yield State(tmp_path / "state")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        competition="digits", recipe="smoke", folds=2, host="local", model=MODEL, root=tmp_path
    )


def write_weights(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    save_file(timm.create_model(MODEL, num_classes=4).state_dict(), path)
    return str(path)


def uploaded(state: State) -> tuple[int, list[str]]:
    """The number of the dataset's versions, and the files of the newest."""
    datasets = Services.open(state).datasets
    version = datasets.find("local-user", "local-user", SLUG)
    assert version is not None
    assert version.is_private
    return version.number, [path.name for path in datasets.files(version.ref).iterdir()]


def test_weights_go_up_once_and_others_as_the_next_version(
    state: State, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = replace(settings, weights=write_weights(tmp_path / "first.safetensors", 1))
    make_weights(first)
    number, (name,) = uploaded(state)
    assert (number, name) == (1, f"{sha256_of(Path(first.weights))[:16]}.safetensors")
    capsys.readouterr()
    for again in (first, settings):
        make_weights(again)
        assert "up to date, nothing uploaded: local-user/test-vit" in capsys.readouterr().out
    assert uploaded(state) == (1, [name])
    kept = settings.workspace.weights / SLUG
    assert (kept / name).read_bytes() == Path(first.weights).read_bytes()

    make_weights(replace(settings, weights=write_weights(tmp_path / "second.safetensors", 2)))
    number, (other,) = uploaded(state)
    assert number == 2
    assert other != name
    assert [path.name for path in kept.glob("*.safetensors")] == [other]


def test_an_upload_that_never_happened_is_made_up_for(
    state: State, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: the weights are kept here, and the host has none or an older version."""
    named = replace(settings, weights=write_weights(tmp_path / "named.safetensors", 1))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.weights._upload", die)
        with pytest.raises(KeyboardInterrupt):
            make_weights(named)
    make_weights(settings)
    assert uploaded(state)[0] == 1


def test_weights_of_another_network_are_refused(settings: Settings, tmp_path: Path) -> None:
    other = replace(
        settings, model="resnet18", weights=write_weights(tmp_path / "a.safetensors", 1)
    )
    with pytest.raises(DataError, match=r"another network: .* first 'conv1\.weight'"):
        make_weights(other)
    assert not list(settings.workspace.weights.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        (MODEL, "none", "nothing to make"),
        (MODEL, "no-such.safetensors", "is no .safetensors file"),
        ("resnet14", "auto", "'resnet14' has no published weights; give WEIGHTS="),
        ("test_mambaout", "auto", "publishes no weights for MODEL='test_mambaout'"),
    ],
)
def test_nothing_to_start_from(settings: Settings, model: str, weights: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_weights(replace(settings, model=model, weights=weights))


def test_a_download_without_a_network(settings: Settings, tmp_path: Path, command: Command) -> None:
    outcome = command("weights", "--model", MODEL, "--host", "local", HF_HUB_OFFLINE="1")
    assert outcome.code == HostError.exit_code, outcome.errors
    assert f"weights of {MODEL} cannot be downloaded" in outcome.errors
    assert not list(settings.workspace.weights.rglob("*.safetensors"))


def test_a_kernel_without_its_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / SLUG).mkdir()
    assert attached_weights(MODEL, "", tmp_path) == "none"
    with pytest.raises(DataError, match=f"there are none below .*your dataset {SLUG}"):
        attached_weights(MODEL, "0" * 64, tmp_path)
    write_weights(tmp_path / SLUG / "other.safetensors", 1)
    with pytest.raises(DataError, match=r"other\.safetensors holds others"):
        attached_weights(MODEL, "0" * 64, tmp_path)


@needs_sandbox()
@pytest.mark.soak
def test_from_weights_to_the_score_of_a_kernel_that_started_from_them(
    state: State, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_session, "_LONGEST_PAUSE_SECONDS", 1.0)
    weights = write_weights(tmp_path / "named.safetensors", 1)
    with pytest.raises(ConfigError, match=r"nothing was pushed, run `make weights MODEL=test_vit"):
        push(replace(settings, weights=weights))
    make_weights(replace(settings, weights=weights))

    push(settings)

    (run,) = (path.parent for path in settings.workspace.runs("digits").glob("*/run.json"))
    metadata = json.loads((run / ".pushed/kernel-metadata.json").read_text())
    assert metadata["dataset_sources"] == [f"local-user/{SLUG}"]
    assert f"weights: /kaggle/input/{SLUG}/" in (run / "kernel.log").read_text()
    record = json.loads((run / "run.json").read_text())
    assert record["network"]["weights"] == sha256_of(Path(weights))
    (upload,) = map(json.loads, settings.workspace.ledger.read_text().splitlines())
    assert upload["run"] == run.name
    assert 0.2 < upload["public_score"] <= 1
