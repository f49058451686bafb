"""The load generator sends each request in time, counts all answers and spares no slow service."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from recsys.cli.app import app
from recsys.errors import BadInput
from service.bench import command
from service.bench.command import BenchOptions, bench, prepared_requests
from service.bench.connection import Connection, post
from service.bench.pace import Request, Samples, paced, saturating
from service.bench.report import histogram, summarize
from service.bench.workload import (
    BenchClick,
    first_clicks,
    replay_clicks,
    sample_clicks,
    sample_values,
)

ITEMS = [f"i{n}" for n in range(50)]


class EchoServer(asyncio.Protocol):
    """Server that answers each request with its body after `delay` seconds and records the body."""

    def __init__(self, log: list[bytes], delay: float, status: int) -> None:
        self._log, self._delay, self._status = log, delay, status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        body = data.partition(b"\r\n\r\n")[2]
        self._log.append(body)
        head = f"HTTP/1.1 {self._status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        write = self._transport.write  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_later(self._delay, write, head + body)


@asynccontextmanager
async def shop(delay: float = 0.0, status: int = 200) -> AsyncIterator[tuple[int, list[bytes]]]:
    log: list[bytes] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: EchoServer(log, delay, status), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], log
    finally:
        server.close()


def visits(count: int, seed: int = 1) -> list[BenchClick]:
    return first_clicks(
        sample_clicks(ITEMS, visitors=5, popularity=1.0, length=1.5, seed=seed), count
    )


def requests_for(clicks: list[BenchClick], port: int) -> list[Request]:
    return [
        Request(c.user_id, post("127.0.0.1", port, "/x", f"{c.user_id} {n}".encode(), {}))
        for n, c in enumerate(clicks)
    ]


def test_item_popularity_follows_the_power_law() -> None:
    clicks = visits(20_000)

    seen = Counter(click.item_id for click in clicks)

    weights = np.arange(1, 51) ** -1.0
    expected = 20_000 * weights / weights.sum()
    assert seen["i0"] == pytest.approx(expected[0], rel=0.05)
    assert seen["i9"] == pytest.approx(expected[9], rel=0.2)


def test_the_number_of_visitors_at_a_time_is_bounded() -> None:
    clicks = visits(5000)

    ends = {click.user_id: at for at, click in enumerate(clicks)}
    begins = {click.user_id: at for at, click in reversed(list(enumerate(clicks)))}
    present = [sum(begins[u] <= at <= ends[u] for u in ends) for at in range(100, 5000, 500)]
    assert len(ends) > 500
    assert max(present) <= 5


def test_clicks_depend_on_the_seed() -> None:
    assert visits(100) == visits(100)
    assert visits(100) != visits(100, seed=2)


def test_requests_filter_by_values_of_items() -> None:
    values = sample_values(["tea", None, "cup"], seed=1)
    options = BenchOptions("http://127.0.0.1:9", filters=[{"kind": ["tea"]}, {"kind": ["cup"]}])
    clicks = [BenchClick("u", "i")] * 3

    payloads = [request.payload for request in prepared_requests(options, clicks)]

    assert set(values) == {"tea", "cup"}
    assert [b'{"kind": ["tea"]}' in payload for payload in payloads] == [True, False, True]


def test_a_replay_repeats_the_log_with_new_visitors() -> None:
    log = [BenchClick("a", "x"), BenchClick("a", "y")]

    replayed = list(itertools.islice(replay_clicks(log), 4))

    assert [click.item_id for click in replayed] == ["x", "y", "x", "y"]
    assert replayed[0].user_id == replayed[1].user_id != replayed[2].user_id


async def test_the_requests_of_a_visitor_arrive_in_order() -> None:
    clicks = visits(300)
    async with shop() as (port, log):
        samples = await paced(
            requests_for(clicks, port), "127.0.0.1", port, rate=3000, connections=4
        )

    assert samples.succeeded == samples.answered == samples.planned == 300
    assert samples.unanswered == 0
    arrived: dict[bytes, list[int]] = {}
    for body in log:
        user, number = body.split()
        arrived.setdefault(user, []).append(int(number))
    assert all(numbers == sorted(numbers) for numbers in arrived.values())


async def test_latency_counts_from_the_time_a_request_is_due() -> None:
    """20 requests due within 20 ms to a service that takes 20 ms each, one after another."""
    async with shop(delay=0.02) as (port, _):
        samples = await paced(
            requests_for(visits(20), port), "127.0.0.1", port, rate=1000, connections=1
        )

    assert max(samples.latency) >= 20 * 0.02 - 0.02
    assert np.median(samples.latency) >= 0.15


async def test_without_a_rate_each_connection_sends_after_each_answer() -> None:
    async with shop() as (port, log):
        samples = await saturating(
            requests_for(visits(5), port), "127.0.0.1", port, seconds=0.2, connections=3
        )

    assert samples.succeeded == samples.answered == len(log)
    assert len(log) > 5  # more requests than were given


async def test_failed_answers_and_broken_connections_are_counted() -> None:
    async with shop(status=503) as (port, _):
        refused = await paced(
            requests_for(visits(5), port), "127.0.0.1", port, rate=500, connections=2
        )
    async with hanging_up() as port:
        gone = await Connection.open("127.0.0.1", port)
        broken: list[int] = []
        gone.send(b"x", lambda status, _: broken.append(status))
        async with asyncio.timeout(30):
            while not broken:
                await asyncio.sleep(0.01)

    assert refused.status == [503] * 5
    assert summarize("paced", refused, 2, 500.0, None).errors == {"503": 5}
    assert broken == [0]


@asynccontextmanager
async def hanging_up() -> AsyncIterator[int]:
    """Yield the port of a server that closes every connection."""

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_connection_that_the_service_closed_is_opened_again() -> None:
    """Servers close silent connections. This is not an error."""
    closed: list[asyncio.Transport] = []

    class Impatient(EchoServer):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            transport: asyncio.Transport = self._transport  # type: ignore[assignment]
            closed.append(transport)
            asyncio.get_running_loop().call_later(0.01, transport.close)

    loop, log = asyncio.get_running_loop(), list[bytes]()
    server = await loop.create_server(lambda: Impatient(log, 0.0, 200), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    samples = await paced(requests_for(visits(4), port), "127.0.0.1", port, rate=4.0, connections=1)
    server.close()

    assert samples.status == [200] * 4
    assert len(closed) == 4


def test_percentiles_and_rate_are_computed_from_the_answers() -> None:
    samples = Samples(
        latency=[n / 1000 for n in range(1, 101)], status=[200] * 99 + [500], seconds=2.0
    )

    result = summarize("saturating", samples, 4, None, 9000.0)

    assert (result.p50, result.p90, result.max) == pytest.approx((50.5, 90.1, 100.0))
    assert result.rate == 49.5
    assert result.errors == {"500": 1}
    assert not result.succeeded


def test_unanswered_requests_are_errors() -> None:
    samples = Samples(latency=[0.1], status=[200], seconds=1.0, unanswered=3)

    assert summarize("paced", samples, 1, 4.0, None).errors == {"unanswered": 3}


def test_a_histogram_counts_everything() -> None:
    console = Console(record=True, width=100)
    console.print(histogram(np.array([1.0, 1.0, 10.0, 100.0])))

    rows = [line.split() for line in console.export_text().splitlines() if "–" in line]
    assert sum(int(row[3]) for row in rows) == 4


def test_a_service_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    options = BenchOptions("http://127.0.0.1:9", measure_ceiling=False, warmup=0.0)

    with pytest.raises(BadInput, match="Start it with recsys serve"):
        bench(options, iter(visits(10)), Console(quiet=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "https://x"}, "is not http://"),
        ({"url": "http://x", "connections": 0}, "--connections must be above 0"),
        ({"url": "http://x", "rate": -1.0}, "cannot be below 0"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _ = BenchOptions(**options).address  # type: ignore[arg-type]


def test_the_command_lists_its_options() -> None:
    shown = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"})

    assert shown.exit_code == 0
    assert "--rate" in shown.output


def test_json_output_is_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    async def instantly(*_: object) -> Samples:
        return Samples(latency=[0.001], status=[200], seconds=1.0)

    monkeypatch.setattr(command, "run_requests", instantly)
    options = BenchOptions("http://127.0.0.1:9", measure_ceiling=False)
    bench(options, iter(visits(10)), Console(quiet=True), as_json=True)

    assert json.loads(capsys.readouterr().out)["answers"] == 1
