"""weights: a network's weights to start from, kept here and as a private dataset on Kaggle.

The file is named after its content, here and in the dataset. So the host's list of files says
whether the dataset holds these weights, whatever was killed in between.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save

from pipeline.artifacts import sha256_of, storage_errors
from pipeline.client.client import KaggleClient
from pipeline.errors import ConfigError
from pipeline.models import make_model, model_names
from pipeline.models.pretrained import SUFFIX, find_weights, weights_slug
from pipeline.models.registry import example_shape, weights_normalisation
from pipeline.notebooks.slugs import title_of
from pipeline.stages.console import say
from pipeline.stages.hosts import open_client
from pipeline.stages.lock import only_command
from pipeline.stages.settings import Settings, check_settings
from pipeline.stages.starting_weights import named_weights

_STANDARD_CONV = "subkernel"


def make_weights(settings: Settings) -> None:
    """Keep the weights of the settings' network, and see that the host has them as a dataset.

    Runs and kernels of that network start from them from then on.

    Raises:
        ConfigError: nobody publishes weights for the network, or the named file is none.
        DataError: the file is damaged, or holds another network's weights.
        HostError: they cannot be downloaded, or the host does not take them.
    """
    check_settings(settings)
    with only_command(settings.workspace):
        path = _kept(settings)
        with open_client(settings.host) as client:
            _upload(client, settings.model, path)


def dataset_of(client: KaggleClient, model: str) -> str:
    """The dataset with the weights of `model`, as owner/slug."""
    return f"{client.kernels.owner()}/{weights_slug(model)}"


def name_of(sha256: str) -> str:
    """The name of a file of weights."""
    return f"{sha256[:16]}{SUFFIX}"


def _kept(settings: Settings) -> Path:
    """The weights in the workspace, put there unless they are."""
    root = settings.workspace.weights
    found = find_weights(settings.model, [root])
    if found and settings.weights == "auto":
        say("weights", f"up to date: {found}")
        return found
    folder = root / weights_slug(settings.model)
    partial = root / f".{folder.name}.partial"
    with storage_errors(partial):
        root.mkdir(parents=True, exist_ok=True)
        _write(settings, partial)
        kept = folder / name_of(sha256_of(partial))
        if found == kept:
            partial.unlink()
            say("weights", f"up to date: {kept}")
            return kept
        # Before the rename: a kill in between leaves no weights, never two to choose from.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        partial.rename(kept)
    say("weights", f"done: {kept} ({kept.stat().st_size / 1e6:.1f} MB)")
    return kept


def _write(settings: Settings, path: Path) -> None:
    """The weights that the settings name, checked against the network."""
    if settings.weights == "none":
        raise ConfigError("WEIGHTS=none: there is nothing to make; give a file, or auto")
    if settings.weights == "auto":
        from pipeline.models.libraries import library_normalisation  # timm: seconds to import
        from pipeline.models.published import published_weights

        say("weights", f"downloading what is published for {settings.model}")
        weights = published_weights(settings.model)
        path.write_bytes(save(weights, library_normalisation(settings.model).metadata()))
        return
    named = named_weights(settings.weights)
    # A library's model takes them before its convolutions are swapped.
    conv = settings.conv if settings.model in model_names() else _STANDARD_CONV
    channels = example_shape(settings.model)[0]
    make_model(settings.model, conv, channels, classes=2, dropout=0.0, weights=named)
    weights_normalisation(settings.model, named, channels)
    shutil.copyfile(named, path)


def _upload(client: KaggleClient, model: str, path: Path) -> None:
    dataset = dataset_of(client, model)
    host = client.endpoint.title
    if client.datasets.files(dataset) == [path.name]:
        say("weights", f"up to date, nothing uploaded: {dataset} on {host} holds {path.name}")
        return
    say("weights", f"uploading {path.stat().st_size / 1e6:.1f} MB to {dataset} on {host}")
    title = title_of(weights_slug(model))
    client.datasets.save(path.parent, dataset, title, notes=path.name)
    say("weights", f"done: {dataset} is private and ready; runs of {model} start from it")
