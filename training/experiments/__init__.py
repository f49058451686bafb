"""Comparison of the variants of an experiment from the events that recsys collect wrote."""
