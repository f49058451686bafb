"""Data pipeline: click files, sessions and batches; and two synthetic shops."""
