"""Top-k retrieval: find the items with the highest scores."""
