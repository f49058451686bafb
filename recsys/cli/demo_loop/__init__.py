"""Simulated shop whose visitors follow lists: serve, collect, retrain, publish, compare."""
