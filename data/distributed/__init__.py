"""Preparation of a log that does not fit into memory: stages of tasks that Dask runs on workers.

The stages call the functions of the in-memory path on partitions, and their result is the same,
byte by byte. `data/distributed/prepare.py` has the order of the stages.
"""
