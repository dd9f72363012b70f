"""How far each block of a network is from its classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from pipeline.models.classifier import ImageClassifier
from pipeline.models.pretrained import classifier_parameters

# Not their subclasses, such as a chain of convolutions, which stand for one layer.
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def classifier_distances(model: nn.Module) -> dict[nn.Parameter, int]:
    """By parameter: 0 for the classifier's, 1 for the last block's, and so on to the stem's.

    A block is an entry of a list that the network holds, or a module beside its lists. Norms
    between blocks belong to the block ahead of them; what the network holds itself, such as a
    class token, to the first one. Blocks follow each other as they are registered. This gives
    timm's layers for ResNets and ViTs, and stages where each stage is a module of its own, as in
    ConvNeXt and Swin.
    """
    net = model.net if isinstance(model, ImageClassifier) else model
    distances = dict.fromkeys(classifier_parameters(model), 0)
    blocks: list[list[nn.Parameter]] = [[]]
    for part in _parts(net):
        backbone = [p for p in part.parameters() if p not in distances]
        if _has_weights(backbone) and _has_weights(blocks[-1]):
            blocks.append([])
        blocks[-1] += backbone
    blocks[0] += net.parameters(recurse=False)
    for distance, block in enumerate(reversed(blocks), start=1):
        for parameter in block:
            distances.setdefault(parameter, distance)
    return distances


def _parts(net: nn.Module) -> Iterator[nn.Module]:
    """The modules that a network consists of, its lists opened."""
    for child in net.children():
        if type(child) in _LISTS:
            yield from _parts(child)
        else:
            yield child


def _has_weights(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether there is more than norms and biases."""
    return any(p.ndim > 1 for p in parameters)
