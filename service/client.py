"""Deprecated alias of `recsys_client`, for scripts that import the clients from here."""

import warnings

from recsys_client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]

warnings.warn(
    "service.client is deprecated. Import Client and AsyncClient from recsys_client instead.",
    DeprecationWarning,
    stacklevel=2,
)
