"""Build retrieval indexes and choose one by its measured recall."""
