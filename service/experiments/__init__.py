"""Variants of the served model, and which users get them."""
