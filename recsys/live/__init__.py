"""Live catalogue: changes of items since a bundle was made, bound to the predictor of the bundle."""
