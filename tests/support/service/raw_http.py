"""HTTP over a raw socket, for requests that a client library would not send."""

import json
import socket
import time
from typing import Any


def answered(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read status, headers and body of the next answer."""
    with connection.makefile("rb", buffering=0) as read:  # later bytes stay in the socket
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
    """Read a problem and check its headers, and that the server closes the connection."""
    status, headers, body = answered(connection)
    document: dict[str, Any] = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == document["request_id"]
    assert document["status"] == status
    assert closed(connection)
    return document


def closed(connection: socket.socket) -> bool:
    return rest(connection) == b""


def rest(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    got = bytearray()
    try:
        while piece := connection.recv(1_000_000):
            got += piece
    except ConnectionResetError:
        pass
    return bytes(got)


def trickle(connection: socket.socket, data: bytes, seconds: float) -> None:
    """Send byte by byte, until the server closes the connection or the time is over."""
    end = time.monotonic() + seconds
    for at in range(len(data)):
        if time.monotonic() > end:
            return
        try:
            connection.sendall(data[at : at + 1])
        except OSError:
            return
        time.sleep(0.02)
