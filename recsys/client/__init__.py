"""Old import path of `recsys_client`, which is also a distribution of its own."""

from typing import TYPE_CHECKING, Any

import recsys_client

if TYPE_CHECKING:
    from recsys_client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """Import the clients where they are first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(recsys_client, name)
