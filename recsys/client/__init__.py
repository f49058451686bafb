"""HTTP client of the service and the schemas of its API. It needs httpx and pydantic only."""

from recsys.client.http import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
