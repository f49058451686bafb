"""Feedback: the log of clicks and of the lists that were answered, in Redis Streams."""
