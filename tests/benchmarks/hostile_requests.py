"""Send requests that are built to stall a worker, and measure the effect on other requests.

    python tests/benchmarks/hostile_requests.py --bundle runs/shop

Serves the bundle in a process of its own, with a private Redis. Sends each request while another
connection requests `/health/live` continuously. Prints status and size of the answer, the longest
wait of the other connection, and the growth of the memory. The exit status is 1 if an error is
longer than 16 kB, a wait longer than 100 ms, or the growth above 50 MB.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from service.server.embedded_redis import private_redis
from service.settings import Settings
from tests.support.service.processes import resident
from tests.support.service.servers import started
from training.demo import train_demo

MOST_BYTES, MOST_MS, MOST_MB = 16_000, 100, 50
ASK, BATCH, CLICKS = "/v1/recommendations", "/v1/recommendations:batch", "/v1/users/a/clicks"
LIMIT = int(Settings.model_fields["max_body_bytes"].default)


def requests() -> Iterator[tuple[str, str, bytes]]:
    """Yield name, path and body of each request, within the size limits or beyond."""

    def filled(before: str, part: str, after: str) -> bytes:
        count = (LIMIT - len(before) - len(after)) // len(part)
        return (before + (part * count).removesuffix(",") + after).encode()

    values = {"user_id": "a", "filter": {"name": [0] * 480_000}}
    yield "480,000 zeros in a filter", ASK, json.dumps(values, separators=(",", ":")).encode()
    zeros = filled('{"user_id":"a","filter":{"name":[', "0,", "]}}")
    for path in (ASK, BATCH, CLICKS):
        fields = ",".join(f'"f{n}":0' for n in range(80_000))[: LIMIT - 10].rpartition(",")[0]
        yield f"unknown fields, {path}", path, f"{{{fields}}}".encode()
    yield "zeros to the limit", ASK, zeros
    yield "empty lists", ASK, filled('{"items":[', "[],", "]}")
    yield "empty objects", ASK, filled('{"items":[', "{},", "]}")
    yield "nested lists", ASK, b"[" * LIMIT
    yield "nested lists in time", ASK, filled("[", "[" * 900 + "]" * 900 + ",", "]")
    yield "a huge integer", ASK, b'{"k":' + b"9" * (LIMIT - 10) + b"}"
    yield "a long text", ASK, filled('{"user_id":"', "a", '"}')
    yield "quotes", ASK, filled('{"user_id":"', '\\",', '"}')
    yield "commas", ASK, filled('{"user_id":"', ",", '"}')
    many = {f"\u0001{n}" * 50: 0 for n in range(32)}
    yield "32 long fields", ASK, json.dumps(many).encode()
    wrong = {"items": [0] * 90, "exclude_items": [0] * 90, **{f"f{n}": 0 for n in range(20)}}
    yield "a batch of wrong ids", BATCH, json.dumps({"requests": [wrong] * 100}).encode()
    lists = {"items": ["x" * 8] * 90, "exclude_items": ["y" * 8] * 100, "k": 100}
    yield "the largest batch", BATCH, json.dumps({"requests": [lists] * 100}).encode()
    lists = {"items": ["x" * 8] * 500, "exclude_items": ["y" * 8] * 100, "k": 100}
    yield "a batch of too many", BATCH, json.dumps({"requests": [lists] * 100}).encode()
    lists = {"items": [f"item {n}" for n in range(500)], "exclude_items": ["z" * 128] * 1000}
    yield "the largest question", ASK, json.dumps({**lists, "k": 100}).encode()
    known = [f"aurora-{name}" for name in ("tent", "sleeping-bag", "kettle", "desk")]
    long = {"items": known, "k": 100}
    yield "a batch of long lists", BATCH, json.dumps({"requests": [long] * 100}).encode()
    filters = [
        {**long, "filter": {"brand": ["Aurora", f"{n}"], "category": ["Camping", "Kitchen"]}}
        for n in range(100)
    ]
    yield "a batch of filters", BATCH, json.dumps({"requests": filters}).encode()
    filters = [{**body, "items": ["unknown"]} for body in filters]
    yield "a batch of filtered popular", BATCH, json.dumps({"requests": filters}).encode()
    wide = {"items": known, "filter": {"name": [f"{n}" for n in range(190)]}}
    yield "a batch of wide filters", BATCH, json.dumps({"requests": [wide] * 100}).encode()
    clicks = [
        {"item_id": f"{n:0128}", "event_id": f"{n:0128}", "timestamp": 1.5} for n in range(500)
    ]
    yield "the largest clicks", CLICKS, json.dumps({"clicks": clicks}).encode()


class HealthProbe:
    """Probe that requests `/health/live` continuously and records the longest wait."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=120)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest_ms = 0.0

    def _ask(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            self._connection.request("GET", "/health/live")
            self._connection.getresponse().read()
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1000)
            time.sleep(0.001)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        time.sleep(0.1)
        try:
            yield
        finally:
            time.sleep(0.1)
            self._stop.set()
            self._thread.join()
            self._connection.close()


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--bundle", type=Path, help="without it, train the shop of the demo")
    options.add_argument(
        "--times", type=int, default=3, help="number of times that each request is sent"
    )
    given = options.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as folder, private_redis() as redis:
        if given.bundle is None:
            given.bundle = Path(folder) / "shop"
            train_demo(given.bundle, Console(stderr=True))
        with started(given.bundle, redis) as server:
            host, port = urlsplit(server.url).hostname or "", server.port
            before = resident(server.pid).rss
            sys.stdout.write("status     bytes   live ms   grown MB   sent bytes  request\n")
            for name, path, body in requests():
                other = HealthProbe(host, port)
                with other.watching():
                    for _ in range(given.times):
                        status, length = sent(host, port, path, body)
                grown = resident(server.pid).rss - before
                short = length <= MOST_BYTES or status == 200
                fine &= short and other.longest_ms < MOST_MS and grown < MOST_MB
                sys.stdout.write(
                    f"{status:6} {length:9,} {other.longest_ms:9.1f} {grown:10.1f} "
                    f"{len(body):12,}  {name}\n"
                )
                sys.stdout.flush()
            grown = resident(server.pid).peak - before
            sys.stdout.write(f"peak memory: {grown:.1f} MB more than before\n")
    return 0 if fine and grown < MOST_MB else 1


def sent(host: str, port: int, path: str, body: bytes) -> tuple[int, int]:
    """Send a request; return status and size of the answer."""
    with closing(http.client.HTTPConnection(host, port, timeout=120)) as connection:
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the server may refuse before all is sent
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, len(answer.read())


if __name__ == "__main__":
    sys.exit(main())
