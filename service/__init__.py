"""The HTTP service: routes, Redis store, batching, health, metrics."""
