"""Kernels: versions of pushed code, and the sandboxed sessions that run them.

A session sees the Python installation, its inputs and its own scratch folders, and no network.
No GPU is passed into it, whatever the kernel asks for; GPU sessions are counted all the same.
"""
