"""Many kinds of requests, valid and not, whose ids and keys must appear nowhere."""

import socket
from contextlib import closing
from urllib.parse import urlsplit

import httpx

from service.middleware.auth import new_key

TENT = "aurora-tent"
KEY, WRONG = new_key(), new_key()
USERS = [f"hushed-{name}" for name in ("ada", "ben", "cem", "dee", "eve", "fay", "gus", "hal")]


def varied_requests(url: str) -> int:
    """Send many kinds of requests; return the status of one that needs Redis."""
    users = iter(USERS)
    headers = {
        "Authorization": f"Bearer {KEY}",
        "X-Request-ID": "one",
        "User-Agent": USERS[1],
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": f"shop={USERS[2]}",
        "baggage": f"user={USERS[3]}",
    }
    with httpx.Client(base_url=url, headers=headers) as client:
        click = {"user_id": next(users), "item_id": TENT, "event_id": "hushed-event"}
        client.post("/v1/recommendations", json=click)
        client.post("/v1/recommendations", json=click | {"k": next(users)})
        client.post(f"/v1/users/{next(users)}/clicks", json={"clicks": [{"item_id": TENT}]})
        client.post(f"/v1/users/{next(users)}/clicks", content=b'{"hushed": ')
        client.get(f"/v1/users/{next(users)}", params={"user": USERS[0]})
        client.get(f"/v1/users/{USERS[0]}%2Fclicks")
        client.delete(f"/v1/users/{USERS[0]}-other")
        client.get(f"/v1/users/{USERS[0]}/recommendations?k=hushed")
        client.get(f"/no/such/hushed/{USERS[0]}")
        client.get(f"/v1/items/{USERS[0]}/similar")
        client.post("/v1/recommendations", content=b"x" * 1_100_000)
        client.get("/v1/model", headers={"Authorization": f"Bearer {WRONG}"})
        client.post("/v1/admin/reload", json={"user_id": USERS[0]})
    host, port = urlsplit(url).hostname, urlsplit(url).port
    head = f"POST /v1/users/{next(users)}/clicks HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n"
    for raw in (
        f"hushed {USERS[0]} {KEY}\r\n\r\n",  # not HTTP
        f"{head}X-A: {USERS[0] * 200}\r\n\r\n",  # too large
        f"{head}Content-Length: 100\r\n\r\nhushed",  # incomplete
        f"{head}Transfer-Encoding: chunked\r\n\r\nzz hushed\r\n",  # malformed chunk
    ):
        with closing(socket.create_connection((host, port), timeout=5)) as connection:
            connection.sendall(raw.encode())
            connection.recv(1000)
    with closing(socket.create_connection((host, port), timeout=5)) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nhushed".encode())  # and disconnects
    return httpx.get(f"{url}/v1/users/{USERS[0]}", headers=headers).status_code
