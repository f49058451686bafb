"""Retraining: a new model on the newest clicks, published only if it is not worse."""
