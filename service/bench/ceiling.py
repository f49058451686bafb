"""Maximum rate of the load generator, measured against a server that only answers."""

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


class ConstantServer(asyncio.Protocol):
    """Server that sends the same answer for each piece of data that arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


def ceiling(connections: int, seconds: float) -> float:
    """Return the maximum number of requests a second of this generator."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    server = context.Process(target=_serve, args=(child,), daemon=True)
    server.start()
    try:
        port = parent.recv()
        payload = post("127.0.0.1", port, "/v1/recommendations", b'{"user_id": "a"}', {})
        requests = [Request(f"v{n}", payload) for n in range(connections * 8)]
        samples = asyncio.run(
            saturating(requests, "127.0.0.1", port, seconds=seconds, connections=connections)
        )
        return samples.succeeded / samples.seconds
    finally:
        server.terminate()
        server.join()


def _serve(pipe: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(ConstantServer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())
