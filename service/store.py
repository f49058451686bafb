"""Where a user's clicks and hidden state wait between two requests.

The click history is the truth; the state is a cache that is kept only while it fits. Each visit is
one atomic script and one round trip. All keys of a user share a hash tag, so Redis Cluster works;
user ids and event ids are stored as keyed hashes.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import orjson

from recsys.errors import StoreUnavailable
from service.redis_link import RedisLink
from service.redis_node import Call, Script
from service.shared_secret import SharedSecret

SECRET_KEY = "recsys:secret"
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
    """A user comes by, with new clicks or only to be answered."""

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
    refused: bool = False  # Redis takes no writes now: none of the clicks is in it
    expires_ms: int | None = None
    state: bytes | None = None
    entries: list[bytes] = field(default_factory=list)  # the last clicks, as stored, oldest first
    item_ids: list[str] = field(default_factory=list)  # their items

    @property
    def head(self) -> str:
        return f"{self.nonce}{self.count}"

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


class RedisStore:
    """The store on Redis; `window` is how many clicks of each user are kept."""

    def __init__(
        self,
        link: RedisLink,
        *,
        window: int,
        idle_seconds: int,
        event_ids_kept: int,
        tombstone_seconds: int,
        secret: str | None = None,
    ) -> None:
        self._link = link
        self._given_secret = None if secret is None else secret.encode()
        self._shared_secret = SharedSecret(link, SECRET_KEY)
        self._limits = [str(window), str(idle_seconds * 1000), str(event_ids_kept)]
        self._tombstone_ms = str(tombstone_seconds * 1000)
        self._visit = Script((SCRIPTS / "visit.lua").read_text(encoding="utf-8"))
        self._keep = Script((SCRIPTS / "keep.lua").read_text(encoding="utf-8"))
        self._forget = Script((SCRIPTS / "forget.lua").read_text(encoding="utf-8"))

    def keep_window(self, window: int) -> None:
        """From now on so many clicks of each user are kept."""
        self._limits[0] = str(window)

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
            return 0, [away] * len(visits)
        calls = [self._keeping(state, secret) for state in states]
        calls += [self._visiting(visit, secret) for visit in visits]
        replies = await self._link.run("visit" if visits else "keep", calls, deadline)
        kept, found = replies[: len(states)], replies[len(states) :]
        return (
            sum(reply == 1 for reply in kept),
            [r if isinstance(r, StoreUnavailable) else _readable(r) for r in found],
        )

    async def visit(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]:
        """What is known of each user after the visit, or why it is not."""
        return (await self.exchange((), visits))[1]

    def _keeping(self, state: ComputedState, secret: bytes) -> Call:
        keys = user_keys(state.user_id, secret)[:2]
        return self._keep.call(keys, [state.head, state.state], repeatable=True)

    def _visiting(self, visit: Visit, secret: bytes) -> Call:
        clicks = [part for click in visit.clicks for part in _parts(click, secret)]
        keys = user_keys(visit.user_id, secret)
        return self._visit.call(keys, [*self._limits, *clicks], repeatable=visit.repeatable)

    async def forget(self, user_id: str) -> None:
        """Raises `StoreUnavailable` where it is not certain that all is gone."""
        deadline = self._link.deadline()
        keys = user_keys(user_id, await self._hashing_secret(deadline))
        call = self._forget.call(keys, [self._tombstone_ms], repeatable=True)
        (reply,) = await self._link.run("forget", [call], deadline)
        if isinstance(reply, StoreUnavailable):
            raise reply

    async def _hashing_secret(self, deadline: float) -> bytes:
        """The key of all hashes: given by setting, else made once and shared through Redis."""
        return self._given_secret or await self._shared_secret.value(deadline)


def user_keys(user_id: str, secret: bytes) -> list[str]:
    """The clicks, state and events keys of a user, on one hash slot; short, as each takes room."""
    hashed = blake2b(user_id.encode(), key=secret[:64], digest_size=12).digest()
    tag = urlsafe_b64encode(hashed).decode()  # 16 characters
    return [f"recsys:{{{tag}}}:{kind}" for kind in "cse"]


def _parts(click: Click, secret: bytes) -> tuple[str, bytes]:
    event = b""
    if click.event_id is not None:
        event = blake2b(click.event_id.encode(), key=secret[:64], digest_size=8).digest()
    return click.entry(), event


def _readable(reply: object) -> StoredSession | StoreUnavailable:
    """What somebody else wrote under our keys is no session, and no reason to fall over."""
    try:
        return _session(reply)
    except (ValueError, TypeError, LookupError):
        return StoreUnavailable(NO_SESSION)


def _session(reply: object) -> StoredSession:
    assert isinstance(reply, list), "visit.lua returns a list"
    nonce, count, accepted, duplicates, forgotten, refused, expires_ms, state, *entries = reply
    return StoredSession(
        nonce=nonce.decode(),
        count=count,
        accepted=accepted,
        duplicates=duplicates,
        forgotten=forgotten,
        refused=refused == 1,
        expires_ms=expires_ms if expires_ms >= 0 else None,
        state=state,
        entries=entries,
        item_ids=[Click.item_of(entry) for entry in entries],
    )
