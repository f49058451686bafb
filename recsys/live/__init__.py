"""Live catalogue: changes of items since a bundle was made, applied to its predictor."""
