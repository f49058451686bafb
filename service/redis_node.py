"""Calls to one Redis server: by whichever line is free, in time, and not while it keeps failing.

A call whose fate is open is sent a second time only if running it twice does what running it once
does. Scripts that the server does not know are loaded, and what asked for them is sent again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1

from redis.exceptions import ClusterDownError, NoScriptError, ResponseError

from service.breaker import Breaker, Moved, Patience, State
from service.redis_line import Command, ConnectionFailed, Line, Reply
from service.switchboard import Switchboard

ASKING: Command = ("ASKING",)
log = logging.getLogger("recsys.service")


class Script:
    """A Lua script, known to Redis by its digest."""

    def __init__(self, text: str, refusal: object = None) -> None:
        self.text, self.refusal = text, refusal
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(
        self, keys: Sequence[str], arguments: Sequence[str | bytes], *, repeatable: bool
    ) -> "Call":
        command = ("EVALSHA", self.digest, len(keys), *keys, *arguments)
        return Call(command, keys[0], repeatable, self)


@dataclass(frozen=True, slots=True)
class Call:
    """One command; `repeatable` if running it twice does what running it once does."""

    command: Command
    key: str  # a Cluster finds the server by it; all keys of a call belong to one
    repeatable: bool
    script: Script | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server is granted."""

    timeout: float  # seconds for one connect or one round trip
    lines: int
    patience: Patience


class Node:
    """One server, the lines to it, and whether it is asked at all.

    name: where it is, for the log. lost: called when the server knew a script no more; it may have
    lost all else, too.
    """

    def __init__(
        self,
        name: str,
        line: Callable[[], Line],
        limits: Limits,
        moved: Moved,
        lost: Callable[[], None],
    ) -> None:
        self._name = name
        self._limits = limits
        self._board = Switchboard(line, limits.lines, limits.timeout)
        self._breaker = Breaker(limits.patience, moved)
        self._lost = lost

    async def ask(
        self, calls: Sequence[Call], deadline: float, *, asking: bool = False
    ) -> list[Reply]:
        """A reply each, in order; an exception where there is none.

        deadline: on the monotonic clock. asking: the calls were sent here by a server that is
        handing their keys over.
        """
        if not self._breaker.admits():
            return [ConnectionFailed("breaker")] * len(calls)
        replies = await self._attempt([call.command for call in calls], deadline, asking)
        if any(isinstance(reply, Exception) for reply in replies):
            await self._mend(calls, replies, deadline, asking)
        return replies

    async def close(self) -> None:
        self._breaker.close()
        await self._board.close()

    async def _mend(
        self, calls: Sequence[Call], replies: list[Reply], deadline: float, asking: bool
    ) -> None:
        """Once more, in place, what may be sent once more and what was missing its script."""
        failed = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, ConnectionFailed) and calls[at].repeatable
        ]
        if failed and self._may_ask_again(deadline):
            again = await self._attempt([calls[at].command for at in failed], deadline, asking)
            for at, reply in zip(failed, again, strict=True):
                replies[at] = reply
        late = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not late:
            return
        self._lost()
        scripts = {call.script for at in late if (call := calls[at]).script is not None}
        loading: list[Command] = [("SCRIPT", "LOAD", script.text) for script in scripts]
        again = await self._attempt(loading + [calls[at].command for at in late], deadline, asking)
        for at, reply in zip(late, again[len(loading) :], strict=True):
            replies[at] = reply

    def _may_ask_again(self, deadline: float) -> bool:
        """There is time for a second attempt as long as the first, and the breaker is closed."""
        in_time = time.monotonic() + self._limits.timeout <= deadline
        return in_time and self._breaker.state is State.CLOSED

    async def _attempt(
        self, commands: Sequence[Command], deadline: float, asking: bool
    ) -> list[Reply]:
        """One round trip."""
        if asking:
            both = [word for command in commands for word in (ASKING, command)]
            return (await self._attempt(both, deadline, asking=False))[1::2]
        began = time.monotonic()
        try:
            line = await self._board.take(deadline)
            try:
                until = min(time.monotonic() + self._limits.timeout, deadline)
                replies = await line.exchange(commands, until)
            finally:
                self._board.give_back(line)
        except ConnectionFailed as failed:
            replies = [failed] * len(commands)
        except BaseException:
            self._note("cancelled", began)
            raise
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        self._note(next((kind for error in errors if (kind := _unable(error))), None), began)
        return replies

    def _note(self, failure: str | None, began: float) -> None:
        before = self._breaker.state
        if failure is None:
            self._breaker.succeeded()
        else:
            self._breaker.failed(began)
        after = self._breaker.state
        if before is State.CLOSED and after is State.OPEN:
            pause = self._limits.patience.pause_seconds
            said = "Redis at %s keeps failing (%s). It is left alone for %g s."
            log.warning(said, self._name, failure, pause)
        elif after is State.CLOSED and before is not State.CLOSED:
            log.warning("Redis at %s answers again.", self._name)


def _unable(error: Exception) -> str | None:
    """What keeps the server from serving anybody, if this error says so."""
    if isinstance(error, ConnectionFailed):
        return error.kind
    if isinstance(error, ClusterDownError):  # also a replica that has lost its master
        return type(error).__name__
    if isinstance(error, ResponseError) and str(error).startswith("BUSY "):
        return "BUSY"  # it runs somebody's endless script, redis-py has no name for it
    return None
