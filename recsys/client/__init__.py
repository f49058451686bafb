"""HTTP client of the service and the schemas of its API. It needs httpx and pydantic only."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.client.http import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """Import the clients where they are first used: the service imports the schemas alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recsys.client import http

    return getattr(http, name)
