"""The layouts of a competition's raw files: one reader each, and one that tells them apart."""

from pipeline.data.layouts.dataset import RawDataset, RawPart
from pipeline.data.layouts.detect import read_layout

__all__ = ["RawDataset", "RawPart", "read_layout"]
