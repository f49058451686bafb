"""`recsys bench`: draw or replay visits, send them to a running service, say what came back."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from rich.console import Console

from recsys.client import AsyncClient
from recsys.errors import BadInput, ServiceRefused, ServiceUnreachable
from service.bench.ceiling import ceiling
from service.bench.connection import post
from service.bench.pace import Request, Samples, paced, saturating
from service.bench.report import Measured, measured, show
from service.bench.workload import BenchClick, some

PATH = "/v1/recommendations"
MOST_PREPARED = 200_000  # requests; a saturating run begins anew at their end
CEILING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is asked, where and how fast; rate 0 is as fast as the answers come."""

    url: str
    rate: float = 0.0
    seconds: float = 10.0
    warmup: float = 2.0
    connections: int = 32
    k: int = 20
    api_key: str | None = None
    with_event_ids: bool = False
    measure_ceiling: bool = True

    def __post_init__(self) -> None:
        for name in ("seconds", "connections", "k"):
            if getattr(self, name) <= 0:
                raise BadInput(
                    "The bench cannot run",
                    [f"--{name} must be above 0, got {getattr(self, name)}."],
                )
        if self.rate < 0 or self.warmup < 0:
            raise BadInput("The bench cannot run", ["--rate and --warmup cannot be below 0."])

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.hostname is None:
            raise BadInput("--url cannot be used", [f"{self.url!r} is not http://host:port."])
        return parts.hostname, parts.port or 80


def bench(
    options: BenchOptions,
    clicks: Iterator[BenchClick],
    console: Console,
    *,
    as_json: bool = False,
    picture: Path | None = None,
) -> Measured:
    """Measure, show, and give what was measured; raises `BadInput` where nobody listens."""
    host, port = options.address
    alone = None
    if options.measure_ceiling:
        with console.status("Measuring the generator alone"):
            alone = ceiling(options.connections, CEILING_SECONDS)
    samples = uvloop.run(_run(options, clicks, host, port, console))
    mode = "paced" if options.rate else "saturating"
    result = measured(mode, samples, options.connections, options.rate or None, alone)
    recorded = Console(record=True, quiet=as_json, file=console.file, width=80)
    show(result, samples.latency, recorded)
    if picture is not None:
        recorded.save_svg(str(picture), title=f"recsys bench {options.url}")
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    return result


async def _run(
    options: BenchOptions, clicks: Iterator[BenchClick], host: str, port: int, console: Console
) -> Samples:
    await _greet(options)

    async def measure(seconds: float) -> Samples:
        if options.rate:
            requests = _prepared(options, some(clicks, round(options.rate * seconds)))
            return await paced(
                requests, host, port, rate=options.rate, connections=options.connections
            )
        requests = _prepared(options, some(clicks, MOST_PREPARED))
        return await saturating(
            requests, host, port, seconds=seconds, connections=options.connections
        )

    if options.warmup:
        with console.status(f"Warming up for {options.warmup:g} s"):
            await measure(options.warmup)
    with console.status(f"Measuring for {options.seconds:g} s"):
        return await measure(options.seconds)


async def _greet(options: BenchOptions) -> None:
    """Raises `BadInput` where nobody answers, or a key is wanted; strangers may be measured."""
    try:
        async with AsyncClient(options.url, api_key=options.api_key) as client:
            await client.model()
    except ServiceUnreachable as nobody:
        problem = f"{nobody} Start it with recsys serve."
        raise BadInput("The service cannot be reached", [problem]) from nobody
    except ServiceRefused as refused:
        if refused.status in (401, 403):
            raise BadInput("The service wants a key (--api-key)", [str(refused)]) from refused


def _prepared(options: BenchOptions, clicks: Sequence[BenchClick]) -> list[Request]:
    """Every request as bytes, before the first is due."""
    host, port = options.address
    headers = {} if options.api_key is None else {"Authorization": f"Bearer {options.api_key}"}
    made = []
    for number, click in enumerate(clicks):
        body = {"user_id": click.user_id, "item_id": click.item_id, "k": options.k}
        if options.with_event_ids:
            body["event_id"] = f"{click.user_id}-{number}"
        wire = post(host, port, PATH, json.dumps(body).encode(), headers)
        made.append(Request(click.user_id, wire))
    return made
