"""Evaluation: ranks, metrics, confidence intervals, comparison with baselines."""
