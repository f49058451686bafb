"""`recsys bench`: measure throughput and latency of a running service."""
