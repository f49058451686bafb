"""ASGI middleware: authentication, rate limit, body limit, headers."""
