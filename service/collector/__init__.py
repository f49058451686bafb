"""Collector: what `recsys collect` reads from the feedback streams, counts and hands on."""
