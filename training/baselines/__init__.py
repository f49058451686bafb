"""Baselines that every model is compared with."""
