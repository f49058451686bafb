"""HTTP client of session-recsys: recommendations for a visitor, from a service that is running.

    from recsys_client import Client

    with Client("http://127.0.0.1:8000") as recsys:
        answer = recsys.recommend(user_id="ada", item_id="aurora-tent", k=5)

The clients, and with them httpx and pydantic, are loaded when they are first used. The service
imports the schemas alone, and the errors need neither library.
"""

from typing import TYPE_CHECKING, Any

from recsys_client.errors import RecsysError, ServiceRefused, ServiceUnreachable

if TYPE_CHECKING:
    from recsys_client.http import AsyncClient, Client

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "Client",
    "RecsysError",
    "ServiceRefused",
    "ServiceUnreachable",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the clients where they are first used."""
    if name not in ("AsyncClient", "Client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recsys_client import http

    return getattr(http, name)


def __dir__() -> list[str]:
    """List the public names, for completion in an editor or a notebook."""
    return sorted(__all__)
