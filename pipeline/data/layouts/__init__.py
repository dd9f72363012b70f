"""The layouts of a competition's raw files: one reader each, and one that tells them apart."""

from pipeline.data.layouts.dataset import RawDataset, RawPart
from pipeline.data.layouts.detect import read_layout
from pipeline.data.layouts.mirroring import mirror_reason

__all__ = ["RawDataset", "RawPart", "mirror_reason", "read_layout"]
