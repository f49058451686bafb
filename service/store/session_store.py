"""Where a user's clicks and hidden state wait between two requests.

The click history is the truth; the state is a cache that is kept only while it fits. Each visit is
one atomic script and one round trip. All that is stored of a user stands under one key, so that it
expires, is evicted and is deleted together; session.lua has the layout. The hash tag of a key is
one of a fixed number of shards, so that one script can write a user and a log of the same shard,
also on a Redis Cluster. User ids and event ids are stored as keyed hashes.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import orjson

from recsys.errors import StoreUnavailable
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall, Script
from service.store.secret import SharedSecret
from service.store.unstored_clicks import FORGOTTEN

SECRET_KEY = "recsys:secret"
# hash tags s00 to s63, which spread evenly over the slots of a cluster; part of the format
SHARDS = 64
BETWEEN = "\x1f"  # ASCII unit separator
SEPARATOR = BETWEEN.encode()
NO_SESSION = "What Redis holds for this user is no session. DELETE the user."
SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Click:
    """One event as a client sent it; `timestamp` is kept and never orders or expires anything."""

    item_id: str
    event_id: str | None = None
    timestamp: float | None = None

    def entry(self) -> str:
        """The text stored in the history; what is absent takes little room or none.

        Item, timestamp and event id with `BETWEEN` between them, as far as there are any; JSON,
        which begins with a bracket, where an id could be mistaken for something else.
        """
        values = [self.item_id, self.timestamp, self.event_id]
        while values[-1] is None:
            values.pop()
        texts = ["" if value is None else str(value) for value in values]
        if texts[0].startswith("[") or any(BETWEEN in text for text in texts):
            return orjson.dumps(values).decode()
        return BETWEEN.join(texts)

    @staticmethod
    def item_of(entry: bytes) -> str:
        """The item alone, which is all that most requests need; raises `ValueError`."""
        if entry.startswith(b"["):
            return Click.of(entry).item_id
        item_id = entry.partition(SEPARATOR)[0].decode()
        if not item_id:
            raise ValueError("no click")
        return item_id

    @classmethod
    def of(cls, entry: bytes) -> "Click":
        """Raises `ValueError` where the entry is no click."""
        if not entry.startswith(b"["):
            item_id, timestamp, event_id, *more = [*entry.decode().split(BETWEEN), "", ""]
            if not item_id or any(more):
                raise ValueError("no click")
            return cls(item_id, event_id or None, float(timestamp) if timestamp else None)
        values: Any = orjson.loads(entry)
        if not values or not isinstance(values[0], str):
            raise ValueError("no click")
        item_id, timestamp, event_id = [*values, None, None][:3]
        if not isinstance(timestamp, int | float | None) or not isinstance(event_id, str | None):
            raise ValueError("no click")
        return cls(item_id, event_id, timestamp)


@dataclass(frozen=True, slots=True)
class Visit:
    """One call for one user: new clicks, or none."""

    user_id: str
    clicks: Sequence[Click] = ()

    @property
    def repeatable(self) -> bool:
        """Sending it twice does what sending it once does."""
        return all(click.event_id is not None for click in self.clicks)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What is known of a user after a visit; `nonce` is empty for a stranger."""

    nonce: str = ""
    count: int = 0  # clicks of this session so far, also those that left the window
    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0  # duplicates of clicks from before a DELETE; they are not in Redis
    refused: str = ""  # the code with which Redis refuses writes: none of the clicks is stored
    expires_ms: int | None = None
    state: bytes = b""
    entries: list[bytes] = field(default_factory=list)  # the last clicks, as stored, oldest first
    item_ids: list[str] = field(default_factory=list)  # their items

    @property
    def head(self) -> str:
        """Return what the stored head begins with while the session is as it was found."""
        return f"{self.nonce} {self.count} "

    @property
    def clicks(self) -> list[Click]:
        """The last clicks, oldest first; raises `StoreUnavailable` where they are none."""
        try:
            return [Click.of(entry) for entry in self.entries]
        except (ValueError, TypeError, LookupError) as broken:
            raise StoreUnavailable(NO_SESSION) from broken


@dataclass(frozen=True, slots=True)
class ComputedState:
    """A state to be kept, if the session is still at this head."""

    user_id: str
    head: str
    state: bytes


class Store(Protocol):
    """What the recommender asks of a store; visits answer or say why not, one by one."""

    async def exchange(
        self, states: Sequence[ComputedState], visits: Sequence[Visit]
    ) -> tuple[int, list[StoredSession | StoreUnavailable]]: ...
    async def visit(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]: ...
    async def forget(self, user_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of what is kept of each user, and for how long."""

    history_length: int  # clicks
    idle_seconds: int
    event_ids_kept: int
    tombstone_seconds: int


class RedisStore:
    """Store on Redis.

    unstored: told the reason and the number of clicks that were not stored.
    """

    def __init__(
        self,
        link: RedisClient,
        limits: StoreLimits,
        secret: str | None = None,
        unstored: Callable[[str, int], None] = lambda reason, clicks: None,
    ) -> None:
        self._link = link
        self._unstored = unstored
        self._given_secret = None if secret is None else secret.encode()
        self._shared_secret = SharedSecret(link, SECRET_KEY)
        self._history_length = limits.history_length
        self._event_ids_kept = limits.event_ids_kept
        self._limits = [str(limits.idle_seconds * 1000), str(limits.event_ids_kept)]
        self._tombstone_ms = str(limits.tombstone_seconds * 1000)
        self._visit = Script(_source("session.lua", "visit.lua"), refusal)
        self._keep = Script(_source("keep.lua"))
        self._forget = Script(_source("session.lua", "forget.lua"))

    def reserve(self, window: int) -> None:
        """Keep at least so many clicks of each user from now on, and never fewer again.

        A model of a smaller window, served for a while, must not cost users their history.
        """
        self._history_length = max(self._history_length, window)

    async def exchange(
        self, states: Sequence[ComputedState], visits: Sequence[Visit]
    ) -> tuple[int, list[StoredSession | StoreUnavailable]]:
        """Keep states, then visit users, in one round trip.

        Returns how many states still fitted, and what is known of each user or why it is not. A
        silent Redis keeps none.
        """
        deadline = self._link.deadline()
        try:
            secret = await self._hashing_secret(deadline)
        except StoreUnavailable as away:
            return 0, [self._counted(visit, away) for visit in visits]
        calls = [self._keeping(state, secret) for state in states]
        calls += [self._visiting(visit, secret) for visit in visits]
        replies = await self._link.run("visit" if visits else "keep", calls, deadline)
        kept, found = replies[: len(states)], replies[len(states) :]
        return (
            sum(reply == 1 for reply in kept),
            [self._counted(visit, _readable(r)) for visit, r in zip(visits, found, strict=True)],
        )

    async def visit(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]:
        """What is known of each user after the visit, or why it is not."""
        return (await self.exchange((), visits))[1]

    def _counted(
        self, visit: Visit, found: StoredSession | StoreUnavailable
    ) -> StoredSession | StoreUnavailable:
        """Report the clicks of this visit that are not in Redis."""
        if not visit.clicks:
            return found
        if isinstance(found, StoreUnavailable):
            reason = "damaged" if str(found) == NO_SESSION else "unavailable"
            self._unstored(reason, len(visit.clicks))
        elif found.refused:
            self._unstored(found.refused.lower(), len(visit.clicks))
        elif found.forgotten:
            self._unstored(FORGOTTEN, found.forgotten)
        return found

    def _keeping(self, state: ComputedState, secret: bytes) -> RedisCall:
        keys = [user_key(state.user_id, secret)]
        return self._keep.call(keys, [state.head, state.state], repeatable=True)

    def _visiting(self, visit: Visit, secret: bytes) -> RedisCall:
        clicks = [part for click in visit.clicks for part in _parts(click, secret)]
        arguments = [str(self._history_length), *self._limits, *clicks]
        keys = [user_key(visit.user_id, secret)]
        # more clicks than event ids are kept: a repeat would not know the first of them
        repeatable = visit.repeatable and len(visit.clicks) <= self._event_ids_kept
        return self._visit.call(keys, arguments, repeatable=repeatable)

    async def forget(self, user_id: str) -> None:
        """Raises `StoreUnavailable` where it is not certain that all is gone."""
        deadline = self._link.deadline()
        secret = await self._hashing_secret(deadline)
        calls = [
            self._forget.call([user_key(user_id, secret)], [self._tombstone_ms], repeatable=True),
            *(
                RedisCall(("DEL", k), k, repeatable=True)
                for k in keys_before_shards(user_id, secret)
            ),
        ]
        for reply in await self._link.run("forget", calls, deadline):
            if isinstance(reply, StoreUnavailable):
                raise reply

    async def _hashing_secret(self, deadline: float) -> bytes:
        """The key of all hashes: given by setting, else made once and shared through Redis."""
        return self._given_secret or await self._shared_secret.value(deadline)


def user_key(user_id: str, secret: bytes) -> str:
    """The key of all that is stored of a user; short, because each one takes memory."""
    hashed = _hashed(user_id, secret)
    return f"recsys:{{s{hashed[0] % SHARDS:02d}}}:{_text(hashed)}"


def keys_before_shards(user_id: str, secret: bytes) -> list[str]:
    """The keys of a user's clicks, state and events, as they were written before version 0.2.

    Sessions end with the change of layout; a deletion removes what an old process still writes.
    """
    return [f"recsys:{{{_text(_hashed(user_id, secret))}}}:{kind}" for kind in "cse"]


def _hashed(user_id: str, secret: bytes) -> bytes:
    return blake2b(user_id.encode(), key=secret[:64], digest_size=12).digest()


def _text(hashed: bytes) -> str:
    return urlsafe_b64encode(hashed).decode()  # 16 characters


def _source(*names: str) -> str:
    return "\n".join((SCRIPTS / name).read_text(encoding="utf-8") for name in names)


def _parts(click: Click, secret: bytes) -> tuple[str, bytes]:
    event = b""
    if click.event_id is not None:
        event = blake2b(click.event_id.encode(), key=secret[:64], digest_size=8).digest()
    return click.entry(), event


def _readable(reply: object) -> StoredSession | StoreUnavailable:
    """Return the session, or say that what another program wrote under our keys is none."""
    if isinstance(reply, StoreUnavailable):
        return reply
    try:
        return _session(reply)
    except (ValueError, TypeError, LookupError):
        return StoreUnavailable(NO_SESSION)


def _session(reply: object) -> StoredSession:
    if not isinstance(reply, list):
        raise ValueError("no session")
    nonce, count, accepted, duplicates, forgotten, refused, expires_ms, state, *entries = reply
    return StoredSession(
        nonce=nonce.decode(),
        count=count,
        accepted=accepted,
        duplicates=duplicates,
        forgotten=forgotten,
        refused=refused.decode(),
        expires_ms=expires_ms if expires_ms >= 0 else None,
        state=state,
        entries=entries,
        item_ids=[Click.item_of(entry) for entry in entries],
    )


def refusal(reply: object) -> str | None:
    """Return the code with which Redis refused the writes of a visit that it answered."""
    return reply[5].decode() or None if isinstance(reply, list) else None
