"""HTTP over a socket of our own, where a client would be too well-behaved."""

import json
import socket
import time
from typing import Any


def answered(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    with connection.makefile("rb", buffering=0) as read:  # what comes after stays where it is
        status = int(read.readline().split()[1])
        headers = {}
        while (line := read.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        body, length = bytearray(), int(headers["content-length"])
        while len(body) < length:
            body += read.read(length - len(body))
        return status, headers, bytes(body)


def problem(connection: socket.socket) -> dict[str, Any]:
    """A problem that is answered, and that the connection was closed after it."""
    status, headers, body = answered(connection)
    found: dict[str, Any] = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == found["request_id"]
    assert found["status"] == status
    assert closed(connection)
    return found


def closed(connection: socket.socket) -> bool:
    return rest(connection) == b""


def rest(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    got = bytearray()
    try:
        while piece := connection.recv(1_000_000):
            got += piece
    except ConnectionResetError:
        pass
    return bytes(got)


def trickle(connection: socket.socket, data: bytes, seconds: float) -> None:
    """Byte by byte, as long as the other side listens."""
    end = time.monotonic() + seconds
    for at in range(len(data)):
        if time.monotonic() > end:
            return
        try:
            connection.sendall(data[at : at + 1])
        except OSError:
            return
        time.sleep(0.02)
