"""Training on many processes: each trains on its rows of every mini-batch, and gradients add up."""
