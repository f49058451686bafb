"""The HTTP API: routes, checks of requests, serialisation of answers."""
