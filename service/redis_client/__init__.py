"""Redis client with time limits, for a single server, a Cluster or servers behind Sentinel."""
