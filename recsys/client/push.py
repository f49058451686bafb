"""Old import path of `recsys_client.push`."""

from recsys_client.push import *  # noqa: F403
