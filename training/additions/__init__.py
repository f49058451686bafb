"""Additions to the model's scores: session neighbours and the repeat term."""
