"""Data pipeline: click files, sessions and batches; and the synthetic demo shop."""
