"""Sends requests, at a fixed pace or as fast as they are answered, and notes when each came back.

Paced, a request has a time at which it is due, and its latency is counted from then, whether or not
anything could be sent at that moment: a service that stalls cannot make the load wait for it
(Tene, "coordinated omission"). A visitor's requests share a connection, so they keep their order.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from service.bench.connection import BROKEN, Connection

OK = 200
PATIENCE = 10.0  # seconds for what is still under way at the end


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and whose it is."""

    user_id: str
    wire: bytes


@dataclass
class Samples:
    """One number for each answer, in the order of the answers."""

    latency: list[float] = field(default_factory=list)  # seconds since it was due
    status: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # seconds the generator itself was behind
    planned: int = 0
    unanswered: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        return len(self.status)

    @property
    def good(self) -> int:
        return self.status.count(OK)


class RequestQueue:
    """One connection and what waits for it."""

    def __init__(self, host: str, port: int, samples: Samples) -> None:
        self._host, self._port, self._samples = host, port, samples
        self._connection: Connection | None = None
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._reconnecting: asyncio.Task[None] | None = None  # held, or it might be collected
        self.busy = False

    async def connect(self) -> None:
        self._connection = await Connection.to(self._host, self._port)

    @property
    def idle(self) -> bool:
        return not self.busy and not self._waiting

    def add(self, due: float, wire: bytes) -> None:
        """Send it when those before it are answered."""
        self._waiting.append((due, wire))
        if not self.busy:
            self._next()

    def _next(self) -> None:
        if self._waiting and self._connection is not None and self._connection.closed:
            self._begin_again()  # a service closes what was silent for long
        else:
            self._send()

    def _send(self) -> None:
        if not self._waiting or self._connection is None:
            return
        due, wire = self._waiting.popleft()
        self.busy = True

        def answered(status: int, _: bytes) -> None:
            self.busy = False
            self._samples.latency.append(time.perf_counter() - due)
            self._samples.status.append(status)
            if status == BROKEN:
                self._begin_again()
            else:
                self._next()

        self._connection.ask(wire, answered)

    def _begin_again(self) -> None:
        self.busy = True
        self._reconnecting = asyncio.get_running_loop().create_task(self._again())

    async def _again(self) -> None:
        """A new connection for what waits; a service that is gone fails each of them."""
        try:
            await self.connect()
        except OSError:
            await asyncio.sleep(0.05)
        self.busy = False
        self._send()

    def close(self) -> int:
        """End; gives how many were never answered."""
        if self._connection is not None:
            self._connection.close()
        return len(self._waiting) + self.busy


async def paced(
    requests: Sequence[Request], host: str, port: int, *, rate: float, connections: int
) -> Samples:
    """Request i is due i / rate seconds after the start."""
    samples = Samples(planned=len(requests))
    lanes = await _lanes(host, port, connections, samples)
    began = time.perf_counter()
    for at, request in enumerate(requests):
        due = began + at / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif at % 64 == 63:
            await asyncio.sleep(0)  # behind: let answers in all the same
        lane = lanes[_lane_of(request, connections)]
        samples.late.append(max(time.perf_counter() - due, 0.0))
        lane.add(due, request.wire)
    until = time.perf_counter() + PATIENCE
    while not all(lane.idle for lane in lanes) and time.perf_counter() < until:
        await asyncio.sleep(0.005)
    samples.seconds = time.perf_counter() - began
    samples.unanswered = sum(lane.close() for lane in lanes)
    return samples


async def saturating(
    requests: Sequence[Request], host: str, port: int, *, seconds: float, connections: int
) -> Samples:
    """Every connection asks again as soon as it is answered; requests begin anew at their end."""
    samples = Samples()
    queues = _queues(requests, connections)  # first: a service closes what is silent for long
    made = [await Connection.to(host, port) for _ in range(connections)]
    began = time.perf_counter()
    ends = began + seconds
    await asyncio.gather(
        *(
            _until(ends, connection, queue, samples)
            for connection, queue in zip(made, queues, strict=True)
            if queue
        )
    )
    samples.seconds = time.perf_counter() - began
    samples.planned = samples.answered
    for connection in made:
        connection.close()
    return samples


def _queues(requests: Sequence[Request], connections: int) -> list[list[bytes]]:
    """What each connection sends: a user's requests all go by one, in order."""
    queues: list[list[bytes]] = [[] for _ in range(connections)]
    for request in requests:
        queues[_lane_of(request, connections)].append(request.wire)
    return queues


def _lane_of(request: Request, connections: int) -> int:
    return crc32(request.user_id.encode()) % connections


async def _until(
    ends: float, connection: Connection, wires: Sequence[bytes], samples: Samples
) -> None:
    """One connection's requests, one after another, until the time is over."""
    done = asyncio.get_running_loop().create_future()
    at, sent = 0, 0.0

    def send() -> None:
        nonlocal at, sent
        wire = wires[at % len(wires)]
        at, sent = at + 1, time.perf_counter()
        connection.ask(wire, answered)

    def answered(status: int, _: bytes) -> None:
        now = time.perf_counter()
        samples.latency.append(now - sent)
        samples.status.append(status)
        if now < ends and status != BROKEN:
            send()
        elif not done.done():
            done.set_result(None)

    send()
    await done


async def _lanes(host: str, port: int, connections: int, samples: Samples) -> list[RequestQueue]:
    lanes = [RequestQueue(host, port, samples) for _ in range(connections)]
    for lane in lanes:
        await lane.connect()
    return lanes
