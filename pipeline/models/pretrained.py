"""Weights to start from: where they lie, and how they fit a network for other images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.models.classifier import ImageClassifier

SUFFIX = ".safetensors"
_LONGEST_SLUG = 50  # of a dataset on Kaggle
_RGB = 3
_OF_NET, _BUFFERS = "net.", {"mean", "scale"}  # of ImageClassifier


def weights_slug(model: str) -> str:
    """The name of the folder, and of the Kaggle dataset, that holds a network's weights."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{model}-weights".lower()).strip("-")
    if len(slug) <= _LONGEST_SLUG:
        return slug
    digest = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{slug[: _LONGEST_SLUG - 9].rstrip('-')}-{digest}"


def find_weights(model: str, roots: Sequence[Path]) -> Path | None:
    """The weights of `model` in the first of `roots` that has them; None where none has.

    A root holds them as Kaggle shows datasets, in one of the two places that it has used:
    <root>/<slug>/ and <root>/datasets/<owner>/<slug>/.

    Raises:
        DataError: a folder holds several.
    """
    slug = weights_slug(model)
    for root in roots:
        for folder in (root / slug, *sorted(root.glob(f"datasets/*/{slug}"))):
            found = sorted(folder.glob(f"*{SUFFIX}"))
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise DataError(f"{folder} holds {len(found)} weights ({names}); leave one of them")
            if found:
                return found[0]
    return None


def load_weights(net: nn.Module, path: Path) -> None:
    """Start `net` from the weights in `path`, a safetensors file of the same architecture.

    A classifier of other classes stays as drawn. A first convolution that saw RGB is summed or
    repeated for other channels, as timm does it.

    Raises:
        DataError: the file is damaged, or holds the weights of another network, or not numbers.
    """
    weights, own = read_weights(path), net.state_dict()
    channels = {key: value.shape[1] for key, value in own.items() if value.ndim > 1}
    for key in weights.keys() & channels:
        if _differs_in(weights[key], own[key], dimension=1) and weights[key].shape[1] == _RGB:
            weights[key] = _for_channels(weights[key], channels[key])
    classifier = [key for key in own.keys() & weights if key.startswith(_of_classifiers(net))]
    if any(weights[key].shape != own[key].shape for key in classifier):
        weights |= {key: own[key] for key in classifier}
    wrong = [key for key in (own | weights) if _shape(weights, key) != _shape(own, key)]
    if wrong:
        raise DataError(
            f"{path} holds weights of another network: {len(wrong)} of {len(own)} tensors differ, "
            f"first {wrong[0]!r} ({_shape(weights, wrong[0])} there, {_shape(own, wrong[0])} "
            "wanted); give the weights of the MODEL that is to start from them"
        )
    net.load_state_dict(weights)
    broken = [key for key, value in net.named_parameters() if not value.isfinite().all()]
    if broken:
        raise DataError(
            f"{path} holds numbers that are not finite in {len(broken)} of {len(own)} tensors, "
            f"first {broken[0]!r}; give weights of a training that went well"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; of the weights of a run's fold, those of the network.

    Raises:
        DataError: it is missing, or damaged, or of another kind.
    """
    tensors = read_tensors(path)
    own = {key for key in tensors if not key.startswith(_OF_NET)}
    if own != _BUFFERS:
        return tensors
    return {key.removeprefix(_OF_NET): tensors[key] for key in tensors.keys() - own}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        DataError: it is missing, or damaged, or of another kind.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is no safetensors file ({reason}); make it again") from err
    return tensors


def classifier_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the layer that gives the logits; all others are the backbone's."""
    net = model.net if isinstance(model, ImageClassifier) else model
    return {p for name in _classifiers(net) for p in net.get_submodule(name).parameters()}


def _of_classifiers(net: nn.Module) -> tuple[str, ...]:
    """What the names of the classifier's tensors begin with."""
    return tuple(f"{module}." for module in _classifiers(net))


def _classifiers(net: nn.Module) -> Sequence[str]:
    """The paths of the last layer: as the network, or timm, names it, else what comes last."""
    named = (getattr(net, "pretrained_cfg", None) or {}).get("classifier")
    if not named:
        named = list(net.state_dict())[-1].rpartition(".")[0]
    return (named,) if isinstance(named, str) else tuple(named)


def _differs_in(one: Tensor, other: Tensor, dimension: int) -> bool:
    """Whether the shapes differ in this dimension and in no other."""
    shapes = list(one.shape), list(other.shape)
    sizes = [shape.pop(dimension) for shape in shapes if len(shape) > dimension]
    return shapes[0] == shapes[1] and len(set(sizes)) == 2


def _for_channels(kernel: Tensor, channels: int) -> Tensor:
    from timm.models import adapt_input_conv  # seconds to import, for weights alone

    planar: Tensor = adapt_input_conv(channels, kernel.reshape(*kernel.shape[:2], -1, 1))
    return planar.reshape(len(kernel), channels, *kernel.shape[2:])


def _shape(tensors: dict[str, Tensor], key: str) -> str:
    return " x ".join(map(str, tensors[key].shape)) or "one" if key in tensors else "none"
