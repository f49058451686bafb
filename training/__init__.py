"""From sessions to a bundle: loop, losses, negatives, checkpoints, baselines, export."""
