"""Old import path of `recsys_client.http`."""

from recsys_client.http import *  # noqa: F403
