"""A competition's raw files read, cached as tensors, and its submission written and checked."""
