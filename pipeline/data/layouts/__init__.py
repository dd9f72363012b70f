"""The layouts of a competition's raw files: one reader each, and one that tells them apart."""

from pipeline.data.layouts.dataset import PixelArray, RawDataset, RawPart
from pipeline.data.layouts.detect import read_layout

__all__ = ["PixelArray", "RawDataset", "RawPart", "read_layout"]
