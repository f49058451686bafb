"""Keys of users in Redis: keyed hashes of their ids, in a fixed number of shards.

The hash tag of a key is that of its shard, so that one script can write a user and a log of the
same shard, on a Redis Cluster, too.
"""

from base64 import urlsafe_b64encode
from hashlib import blake2b

from service.feedback.entries import SHARDS


def user_key(user_id: str, secret: bytes) -> str:
    """Return the key of all data of a user. It is short because every key takes memory."""
    digest = _digest(user_id, secret)
    return f"recsys:{{s{digest[0] % SHARDS:02d}}}:{_text(digest)}"


def keys_before_shards(user_id: str, secret: bytes) -> list[str]:
    """Return the keys of a user's clicks, state and events in the layout before version 0.2.

    Sessions end with the change of layout. A deletion removes what an old process still writes.
    """
    return [f"recsys:{{{_text(_digest(user_id, secret))}}}:{kind}" for kind in "cse"]


def _digest(user_id: str, secret: bytes) -> bytes:
    return blake2b(user_id.encode(), key=secret[:64], digest_size=12).digest()


def _text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode()  # 16 characters
