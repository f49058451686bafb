"""ASGI middleware: authentication, rate limit, body limit and headers."""
