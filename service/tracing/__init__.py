"""Spans of requests, batches and calls of Redis, for an OTLP receiver."""
