"""An exported network computes in onnxruntime what it computes in torch."""

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models import example_shape, make_model
from pipeline.models.classifier import ImageClassifier
from pipeline.models.fuse import fuse
from pipeline.models.onnx import export_onnx


def run_onnx(path, x):
    return onnxruntime.InferenceSession(path).run(["output"], {"input": x.numpy()})[0]


@pytest.mark.parametrize(
    ("name", "conv"), [("mnist-net", "channel-selection"), ("test_efficientnet", "bottleneck-norm")]
)
def test_onnxruntime_agrees_with_torch_for_any_batch(tmp_path, name, conv):
    torch.manual_seed(0)
    shape = example_shape(name)
    model = make_model(name, conv, shape[0], 4, dropout=0.5)
    path = tmp_path / "model.onnx"

    export_onnx(fuse(model), torch.randn(2, *shape), path)

    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        with torch.inference_mode():
            expected = model.eval()(x).numpy()
        np.testing.assert_allclose(run_onnx(path, x), expected, rtol=1e-3, atol=1e-5)


def test_a_classifier_takes_images_as_the_cache_holds_them(tmp_path):
    torch.manual_seed(0)
    net = make_model("resnet14", "bottleneck", 3, 5, dropout=0.5)
    model = ImageClassifier(net, torch.full((3,), 120.0), torch.full((3,), 60.0))
    images = torch.randint(0, 256, (4, 9, 8, 3), dtype=torch.uint8)
    path = tmp_path / "model.onnx"

    export_onnx(fuse(model), images[:2], path)

    with torch.inference_mode():
        expected = model.eval()(images).numpy()
    np.testing.assert_allclose(run_onnx(path, images), expected, rtol=1e-3, atol=1e-4)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Conv" in operators
    assert "BatchNormalization" not in operators
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_without_the_optional_packages_the_remedy_is_told(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )

    with pytest.raises(ConfigError, match=r"needs onnxscript; install.*\[onnx\]"):
        export_onnx(torch.nn.Identity(), torch.ones(2, 1), tmp_path / "model.onnx")
