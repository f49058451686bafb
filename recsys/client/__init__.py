"""The HTTP client and the schemas of the API. It needs httpx and pydantic, not torch."""
