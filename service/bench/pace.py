"""Send requests at a fixed rate or as fast as they are answered, and record each latency.

At a fixed rate, a request has a time at which it is due. Its latency counts from then, even if it
was sent later, so that a slow service cannot slow down the load (Tene, "coordinated omission"). All
requests of a visitor share a connection, so they keep their order.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from service.bench.connection import BROKEN, Connection

OK = 200
DRAIN_SECONDS = 10.0  # wait for the answers that are missing at the end


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes of a request, and the user whose order it keeps."""

    user_id: str
    payload: bytes


@dataclass
class Samples:
    """Measurements, one for each answer in the order of the answers."""

    latency: list[float] = field(default_factory=list)  # seconds since the request was due
    status: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # seconds that the generator was late
    planned: int = 0
    unanswered: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        return len(self.status)

    @property
    def succeeded(self) -> int:
        return self.status.count(OK)


class RequestQueue:
    """Connection with a queue of requests that wait for it."""

    def __init__(self, host: str, port: int, samples: Samples) -> None:
        self._host, self._port, self._samples = host, port, samples
        self._connection: Connection | None = None
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._reconnecting: asyncio.Task[None] | None = None  # a reference keeps the task alive
        self._busy = False

    async def connect(self) -> None:
        self._connection = await Connection.open(self._host, self._port)

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    def add(self, due: float, payload: bytes) -> None:
        """Queue a request, which is sent when the requests before it are answered."""
        self._waiting.append((due, payload))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        if self._waiting and self._connection is not None and self._connection.closed:
            self._reconnect()  # a service closes connections after a long silence
        else:
            self._send()

    def _send(self) -> None:
        if not self._waiting or self._connection is None:
            return
        due, payload = self._waiting.popleft()
        self._busy = True

        def on_answer(status: int, _: bytes) -> None:
            self._busy = False
            self._samples.latency.append(time.perf_counter() - due)
            self._samples.status.append(status)
            if status == BROKEN:
                self._reconnect()
            else:
                self._next()

        self._connection.send(payload, on_answer)

    def _reconnect(self) -> None:
        self._busy = True
        self._reconnecting = asyncio.get_running_loop().create_task(self._open_and_send())

    async def _open_and_send(self) -> None:
        """Open a new connection and send the next request, which fails if the service is down."""
        try:
            await self.connect()
        except OSError:
            await asyncio.sleep(0.05)
        self._busy = False
        self._send()

    def close(self) -> int:
        """Close the connection and return the number of unanswered requests."""
        if self._connection is not None:
            self._connection.close()
        return len(self._waiting) + self._busy


async def paced(
    requests: Sequence[Request], host: str, port: int, *, rate: float, connections: int
) -> Samples:
    """Send request i at i / rate seconds after the start."""
    samples = Samples(planned=len(requests))
    queues = await _open_queues(host, port, connections, samples)
    start = time.perf_counter()
    for number, request in enumerate(requests):
        due = start + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif number % 64 == 63:
            await asyncio.sleep(0)  # late: still let the event loop read answers
        queue = queues[_queue_index(request, connections)]
        samples.late.append(max(time.perf_counter() - due, 0.0))
        queue.add(due, request.payload)
    end = time.perf_counter() + DRAIN_SECONDS
    while not all(queue.idle for queue in queues) and time.perf_counter() < end:
        await asyncio.sleep(0.005)
    samples.seconds = time.perf_counter() - start
    samples.unanswered = sum(queue.close() for queue in queues)
    return samples


async def saturating(
    requests: Sequence[Request], host: str, port: int, *, seconds: float, connections: int
) -> Samples:
    """Send the next request of a connection after each answer, again from the start at the end."""
    samples = Samples()
    # before the connections, which a service closes after a long silence
    payloads = _payloads(requests, connections)
    opened = [await Connection.open(host, port) for _ in range(connections)]
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(
        *(
            _send_until(end, connection, own, samples)
            for connection, own in zip(opened, payloads, strict=True)
            if own
        )
    )
    samples.seconds = time.perf_counter() - start
    samples.planned = samples.answered
    for connection in opened:
        connection.close()
    return samples


def _payloads(requests: Sequence[Request], connections: int) -> list[list[bytes]]:
    """Return the requests of each connection. One connection sends all requests of a user."""
    payloads: list[list[bytes]] = [[] for _ in range(connections)]
    for request in requests:
        payloads[_queue_index(request, connections)].append(request.payload)
    return payloads


def _queue_index(request: Request, connections: int) -> int:
    return crc32(request.user_id.encode()) % connections


async def _send_until(
    end: float, connection: Connection, payloads: Sequence[bytes], samples: Samples
) -> None:
    """Send the requests of one connection, one after another, until the end time."""
    done = asyncio.get_running_loop().create_future()
    number, sent = 0, 0.0

    def send() -> None:
        nonlocal number, sent
        payload = payloads[number % len(payloads)]
        number, sent = number + 1, time.perf_counter()
        connection.send(payload, on_answer)

    def on_answer(status: int, _: bytes) -> None:
        now = time.perf_counter()
        samples.latency.append(now - sent)
        samples.status.append(status)
        if now < end and status != BROKEN:
            send()
        elif not done.done():
            done.set_result(None)

    send()
    await done


async def _open_queues(
    host: str, port: int, connections: int, samples: Samples
) -> list[RequestQueue]:
    queues = [RequestQueue(host, port, samples) for _ in range(connections)]
    for queue in queues:
        await queue.connect()
    return queues
