"""Recommendation: from checked queries and stored sessions to the lists of a batch."""
