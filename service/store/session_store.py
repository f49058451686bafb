"""Store of sessions in Redis: each user's clicks, event ids and cached hidden state.

The click history is the source of truth; the state is a cache.
service/recommendation/query_session.py states the law that both obey. A visit is one user's part of
a round trip: new clicks in, the whole session out. It runs as one atomic script.

All data of a user stands under one key, so it expires, is evicted and is deleted together.
session.lua has the layout. User ids (user_keys.py) and event ids are stored as keyed hashes.

With feedback, a visit writes its clicks, and a deletion its marker, to the stream of the shard as
well, in the same script. A deletion does so also while feedback is off, if the stream exists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from recsys.errors import StoreUnavailable
from service.feedback.entries import click_data, stream_of
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall, Script
from service.store.click import Click
from service.store.secret import SharedSecret
from service.store.unstored_clicks import FORGOTTEN
from service.store.user_keys import keys_before_shards, user_key

SECRET_KEY = "recsys:secret"
SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Visit:
    """Part of a round trip for one user, with new clicks or without."""

    user_id: str
    clicks: Sequence[Click] = ()
    model_id: str | None = None  # that serves the user; for the feedback
    variant: str | None = None

    @property
    def repeatable(self) -> bool:
        """Return whether sending the visit twice does what sending it once does."""
        return all(click.event_id is not None for click in self.clicks)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """Session of a user after a visit. `nonce` is empty if the user has no session."""

    nonce: str = ""
    count: int = 0  # clicks of this session so far, those that left the history included
    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0  # duplicates of clicks from before a DELETE, which are not in Redis
    refused: str = ""  # code with which Redis refused the writes: no click of the visit is stored
    expires_ms: int | None = None
    state: bytes = b""
    entries: list[bytes] = field(default_factory=list)  # the last clicks, as stored, oldest first
    item_ids: list[str] = field(default_factory=list)  # their items
    key: str = field(default="", compare=False)  # of the user

    @property
    def head(self) -> str:
        """Return the beginning of the stored head, which changes with the next click."""
        return f"{self.nonce} {self.count} "

    @property
    def event_types(self) -> list[str | None]:
        """Return the types of the last clicks, oldest first."""
        return [Click.event_type_of(entry) for entry in self.entries]

    @property
    def clicks(self) -> list[Click]:
        """Return the last clicks, oldest first.

        Raises:
            StoreUnavailable: if an entry is no click.
        """
        try:
            return [Click.from_entry(entry) for entry in self.entries]
        except (ValueError, TypeError, LookupError) as error:
            raise _damaged_session() from error


@dataclass(frozen=True, slots=True)
class ComputedState:
    """State to be stored if the session still has this head."""

    user_id: str
    head: str
    state: bytes


class Store(Protocol):
    """Interface of a store. Each visit has a result of its own: a session or an error."""

    async def exchange(
        self, states: Sequence[ComputedState], visits: Sequence[Visit]
    ) -> tuple[int, list[StoredSession | StoreUnavailable]]: ...
    async def visit(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]: ...
    async def forget(self, user_id: str) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of what is stored of each user, and for how long."""

    history_length: int  # clicks
    idle_seconds: int
    event_ids_kept: int
    tombstone_seconds: int
    stream_bytes: int | None = None  # of a feedback stream, for clicks; None: no feedback


class RedisStore:
    """Store in Redis.

    Args:
        redis_client: the client.
        limits: limits of each user's data.
        secret: key of the hashes of user ids and event ids; None for a value shared through Redis.
        unstored: called with the reason and the number of clicks that were not stored.
        accepted: called with the session after a visit that has stored clicks.
    """

    def __init__(
        self,
        redis_client: RedisClient,
        limits: StoreLimits,
        secret: str | None = None,
        unstored: Callable[[str, int], None] = lambda reason, clicks: None,
        accepted: Callable[[StoredSession], None] = lambda session: None,
    ) -> None:
        self._redis_client = redis_client
        self._unstored, self._accepted = unstored, accepted
        self._given_secret = None if secret is None else secret.encode()
        self._shared_secret = SharedSecret(redis_client, SECRET_KEY)
        self._history_length = limits.history_length
        self._event_ids_kept = limits.event_ids_kept
        self._limits = [str(limits.idle_seconds * 1000), str(limits.event_ids_kept)]
        self._feedback = limits.stream_bytes is not None
        if limits.stream_bytes is not None:
            self._limits.append(str(limits.stream_bytes))
        self._tombstone_ms = str(limits.tombstone_seconds * 1000)
        self._visit_script = Script(script_source("session.lua", "visit.lua"), write_refusal)
        self._keep_script = Script(script_source("keep.lua"))
        self._forget_script = Script(script_source("session.lua", "forget.lua"))

    def reserve(self, window: int) -> None:
        """Store at least `window` clicks of each user from now on.

        The history never becomes shorter again: a model with a smaller window that is served for a
        while must not cost users their clicks.
        """
        self._history_length = max(self._history_length, window)

    async def close(self) -> None:
        """Wait for what is under way beside the requests."""
        await self._shared_secret.close()

    async def exchange(
        self, states: Sequence[ComputedState], visits: Sequence[Visit]
    ) -> tuple[int, list[StoredSession | StoreUnavailable]]:
        """Store states, then visit users, in one round trip.

        Args:
            states: states to store. A state is dropped if its session has changed meanwhile.
            visits: the visits, made in this order for each user.

        Returns:
            The number of states that were stored, and for each visit the session or the error. If
            Redis does not answer, no state counts as stored.
        """
        deadline = self._redis_client.deadline()
        try:
            secret = await self.hashing_secret(deadline)
        except StoreUnavailable as error:
            return 0, [self._report(visit, error) for visit in visits]
        keys = [user_key(visit.user_id, secret) for visit in visits]
        calls = [self._keep_call(state, secret) for state in states]
        calls += [
            self._visit_call(visit, key, secret) for visit, key in zip(visits, keys, strict=True)
        ]
        replies = await self._redis_client.run("visit" if visits else "keep", calls, deadline)
        keep_replies, visit_replies = replies[: len(states)], replies[len(states) :]
        return (
            sum(reply == 1 for reply in keep_replies),
            [
                self._report(visit, _session_or_error(reply, key))
                for visit, reply, key in zip(visits, visit_replies, keys, strict=True)
            ],
        )

    async def visit(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]:
        """Return the session of each visit, or the error, after one round trip."""
        return (await self.exchange((), visits))[1]

    async def forget(self, user_id: str) -> None:
        """Delete all data of a user. Hashed event ids stay for a while as a tombstone.

        Raises:
            StoreUnavailable: if it is not certain that all data is deleted.
        """
        deadline = self._redis_client.deadline()
        secret = await self.hashing_secret(deadline)
        own_key = user_key(user_id, secret)
        keys, feedback = [own_key, stream_of(own_key)], "1" if self._feedback else "0"
        calls = [
            self._forget_script.call(keys, [self._tombstone_ms, feedback], repeatable=True),
            *(
                RedisCall(("DEL", key), key, repeatable=True)
                for key in keys_before_shards(user_id, secret)
            ),
        ]
        for reply in await self._redis_client.run("forget", calls, deadline):
            if isinstance(reply, StoreUnavailable):
                raise reply

    def _report(
        self, visit: Visit, result: StoredSession | StoreUnavailable
    ) -> StoredSession | StoreUnavailable:
        """Report the clicks of this visit that are in Redis, and those that are not.

        Return the result.
        """
        if not visit.clicks:
            return result
        if isinstance(result, StoreUnavailable):
            self._unstored(result.reason, len(visit.clicks))
            return result
        if result.refused:
            self._unstored(result.refused.lower(), len(visit.clicks))
        elif result.forgotten:
            self._unstored(FORGOTTEN, result.forgotten)
        if result.accepted:
            self._accepted(result)
        return result

    def _keep_call(self, state: ComputedState, secret: bytes) -> RedisCall:
        keys = [user_key(state.user_id, secret)]
        return self._keep_script.call(keys, [state.head, state.state], repeatable=True)

    def _visit_call(self, visit: Visit, key: str, secret: bytes) -> RedisCall:
        arguments: list[str | bytes] = [str(self._history_length), *self._limits]
        for click in visit.clicks:
            arguments += _arguments(click, secret)
            if self._feedback:
                arguments.append(_click_data(click, visit))
        # with more clicks than event ids are kept, a repeat would not recognise the first clicks
        repeatable = visit.repeatable and len(visit.clicks) <= self._event_ids_kept
        return self._visit_script.call(self._keys(key), arguments, repeatable=repeatable)

    def _keys(self, key: str) -> list[str]:
        """Return the keys of a script that writes a user: with feedback, the stream, too."""
        return [key, stream_of(key)] if self._feedback else [key]

    async def hashing_secret(self, deadline: float | None = None) -> bytes:
        """Return the key of all hashes: the setting, else the value shared through Redis.

        Raises:
            StoreUnavailable: if this process does not know the value and Redis does not answer.
        """
        if self._given_secret is not None:
            return self._given_secret
        return await self._shared_secret.value(deadline or self._redis_client.deadline())


def script_source(*names: str) -> str:
    return "\n".join((SCRIPTS / name).read_text(encoding="utf-8") for name in names)


def _arguments(click: Click, secret: bytes) -> tuple[str, bytes]:
    """Return the entry of a click and its hashed event id, as visit.lua takes them."""
    event = b""
    if click.event_id is not None:
        event = blake2b(click.event_id.encode(), key=secret[:64], digest_size=8).digest()
    return click.to_entry(), event


def _click_data(click: Click, visit: Visit) -> bytes:
    """Return what the feedback says about a click of this visit."""
    return click_data(click.item_id, click.event_type, click.list_id, visit.variant, visit.model_id)


def _damaged_session() -> StoreUnavailable:
    """Return the error for a key that another program wrote or that is damaged."""
    return StoreUnavailable(
        "The Redis key of this user holds no session: it is damaged, or another program wrote it. "
        "DELETE the user to remove it.",
        reason="damaged",
    )


def _session_or_error(reply: object, key: str) -> StoredSession | StoreUnavailable:
    """Read the reply of a visit."""
    if isinstance(reply, StoreUnavailable):
        return reply
    try:
        return _read_session(reply, key)
    except (ValueError, TypeError, LookupError):
        return _damaged_session()


def _read_session(reply: object, key: str) -> StoredSession:
    if not isinstance(reply, list):
        raise ValueError("The reply is no session.")
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
        item_ids=[Click.item_id_of(entry) for entry in entries],
        key=key,
    )


def write_refusal(reply: object) -> str | None:
    """Return the code with which Redis refused the writes of a visit that it answered."""
    return reply[5].decode() or None if isinstance(reply, list) else None
