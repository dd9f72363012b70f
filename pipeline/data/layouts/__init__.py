"""The layouts of a competition's raw files: one reader each, and one that tells them apart."""

from pipeline.data.layouts.detect import read_layout
from pipeline.data.layouts.mirroring import mirror_reason
from pipeline.data.layouts.parts import RawDataset, RawPart

__all__ = ["RawDataset", "RawPart", "mirror_reason", "read_layout"]
