"""Trending: the newest clicks of all users, counted in Redis and read by every process."""
