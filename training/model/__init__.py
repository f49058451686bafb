"""The trained part: training step, sampling, losses, optimizers, weights."""
