"""The catalogue: item ids, item indices, click counts and attributes."""
