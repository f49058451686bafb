"""How fast the generator is by itself: against a server that does nothing but answer."""

import asyncio
import multiprocessing
from multiprocessing.connection import Connection as Pipe

from service.bench.connection import post
from service.bench.pace import Request, saturating

BODY = b'{"items": []}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


class Idle(asyncio.Protocol):
    """Answers whatever comes, one answer for each piece that arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


def ceiling(connections: int, seconds: float) -> float:
    """Requests a second that this generator sends and gets answered, at most."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        port = ours.recv()
        wire = post("127.0.0.1", port, "/v1/recommendations", b'{"user_id": "a"}', {})
        requests = [Request(f"v{n}", wire) for n in range(connections * 8)]
        samples = asyncio.run(
            saturating(requests, "127.0.0.1", port, seconds=seconds, connections=connections)
        )
        return samples.good / samples.seconds
    finally:
        server.terminate()
        server.join()


def _serve(pipe: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Idle, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())
