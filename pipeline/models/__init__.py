"""Networks by name, built with the chosen convolution."""

from pipeline.models.classifier import ImageClassifier
from pipeline.models.registry import make_model, model_names

__all__ = ["ImageClassifier", "make_model", "model_names"]
