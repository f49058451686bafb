"""From click files to sessions and batches, and the synthetic demo shop."""
