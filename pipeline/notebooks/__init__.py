"""Kaggle notebooks made from the package: the same code, ready to push."""

from pipeline.notebooks.files import KernelFiles
from pipeline.notebooks.generate import Choices, compare_kernel, generate_kernel, variant_kernel
from pipeline.notebooks.push_copy import prepare_push
from pipeline.notebooks.secrets import Finding, scan_for_secrets
from pipeline.notebooks.slugs import check_slug, compare_slug, kernel_slug

__all__ = [
    "Choices",
    "Finding",
    "KernelFiles",
    "check_slug",
    "compare_kernel",
    "compare_slug",
    "generate_kernel",
    "kernel_slug",
    "prepare_push",
    "scan_for_secrets",
    "variant_kernel",
]
