"""A Redis client with time limits for a server, a Cluster or Sentinel."""
