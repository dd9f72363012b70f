"""Networks by name, built with the chosen convolution."""

from pipeline.models.classifier import ImageClassifier
from pipeline.models.registry import (
    check_classifier,
    check_images,
    example_classes,
    example_shape,
    make_model,
    model_module,
    model_names,
)

__all__ = [
    "ImageClassifier",
    "check_classifier",
    "check_images",
    "example_classes",
    "example_shape",
    "make_model",
    "model_module",
    "model_names",
]
