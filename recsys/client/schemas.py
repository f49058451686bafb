"""Old import path of `recsys_client.schemas`."""

from recsys_client.schemas import *  # noqa: F403
