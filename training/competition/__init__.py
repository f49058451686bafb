"""Automatic recipe: a few strong recipes compete on validation sessions within a budget."""
