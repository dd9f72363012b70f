"""Kaggle notebooks made from the package: the same code, ready to push."""

from pipeline.notebooks.files import KernelFiles
from pipeline.notebooks.generate import compare_kernel, variant_kernel
from pipeline.notebooks.push_copy import prepare_push
from pipeline.notebooks.secrets import scan_for_secrets

__all__ = ["KernelFiles", "compare_kernel", "prepare_push", "scan_for_secrets", "variant_kernel"]
