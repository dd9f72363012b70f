"""The form of a network for inference: plain convolutions, batch norm folded into them.

Every kernel is composed once instead of in every step, and a batch norm behind a convolution or
a linear layer is one more factor of its weights, since its statistics no longer move.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections import Counter

import torch
from torch import fx, nn
from torch.fx.experimental import optimization
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.models.compose import compose_kernels
from pipeline.models.native_norm import NativeBatchNorm2d
from pipeline.models.norm import SumBatchNorm2d, holds_activation

_LOG = logging.getLogger(__name__)
_MERGED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """A copy of `model` that computes what it computes in eval mode, in fewer operations.

    No parametrised convolution remains, and no batch norm that follows a convolution or linear
    layer directly. Parts whose dataflow torch.fx cannot follow keep their batch norms, and norms
    that follow something else stay too; `batch_norms` lists them, and a log line counts them.
    The original is left as it is. The copy is for inference: it is in eval mode.
    """
    fused = compose_kernels(copy.deepcopy(model))
    _use_plain_norms(fused)
    fused = _fold_norms(fused.eval())
    left = batch_norms(fused)
    if left:
        _LOG.info("fuse: %d batch norms stay, first %s", len(left), left[0])
    return fused


def batch_norms(model: nn.Module) -> list[str]:
    """The dotted paths of the batch norms in `model`."""
    return [path for path, module in model.named_modules() if isinstance(module, _BatchNorm)]


def _use_plain_norms(model: nn.Module) -> None:
    """Replace the batch norms that differ from the library's in training, or do more than it.

    The latter are timm's, which hold a dropout and an activation.
    """
    for path, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d) and holds_activation(norm):
            parts = dict(norm.named_children())
            model.set_submodule(path, nn.Sequential(_plain_norm(norm), parts["drop"], parts["act"]))
        elif isinstance(norm, SumBatchNorm2d | NativeBatchNorm2d):
            model.set_submodule(path, _plain_norm(norm))


def _plain_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    plain = nn.BatchNorm2d(
        norm.num_features,
        norm.eps,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
        device="meta",
    )
    own = {name: value for name, value in norm.state_dict().items() if "." not in name}
    plain.load_state_dict(own, assign=True)
    return plain


def _fold_norms(module: nn.Module) -> nn.Module:
    """The module with its batch norms folded where torch.fx can follow it, else its children."""
    if not batch_norms(module):
        return module
    graph = _graph(module)
    if graph is not None:
        return optimization.fuse(fx.GraphModule(module, graph), no_trace=True)
    for name, child in module.named_children():
        setattr(module, name, _fold_norms(child))
    return module


class _Tracer(fx.Tracer):
    """Follows only what holds a batch norm; everything else is one step of the graph."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        holds_norm = bool(batch_norms(module)) or isinstance(module, nn.Sequential)
        return super().is_leaf_module(module, qualified_name) or not holds_norm


def _graph(module: nn.Module) -> fx.Graph | None:
    """The dataflow of a module of one input, or None where it cannot be known."""
    if len(inspect.signature(module.forward).parameters) != 1:
        return None  # what the caller leaves out decides the path, and tracing would miss it
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # a forward pass that looks at values fails in ways of its own
        _LOG.debug("fuse: cannot follow %s: %s", type(module).__name__, error)
        return None
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    shared = [
        target
        for target, count in calls.items()
        if count > 1 and isinstance(module.get_submodule(target), _MERGED)
    ]
    return None if shared else graph
