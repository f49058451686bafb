"""`recsys bench`: sample or replay clicks, send them to a running service, report the result."""

import json
from collections.abc import Iterator, Mapping, Sequence
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
from service.bench.report import BenchResult, show, summarize
from service.bench.workload import BenchClick, first_clicks

PATH = "/v1/recommendations"
MAX_PREPARED = 200_000  # requests; a run without a rate repeats them
CEILING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a bench run. A rate of 0 sends each request after the answer to the last one."""

    url: str
    rate: float = 0.0
    seconds: float = 10.0
    warmup: float = 2.0
    connections: int = 32
    k: int = 20
    api_key: str | None = None
    with_event_ids: bool = False
    measure_ceiling: bool = True
    filters: Sequence[Mapping[str, Sequence[str]]] = ()  # of the requests, again and again; or none

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
) -> BenchResult:
    """Measure, print and return the result; raise `BadInput` if the service does not answer."""
    host, port = options.address
    generator_rate = None
    if options.measure_ceiling:
        with console.status("Measuring the generator alone"):
            generator_rate = ceiling(options.connections, CEILING_SECONDS)
    samples = uvloop.run(run_requests(options, clicks, host, port, console))
    mode = "paced" if options.rate else "saturating"
    result = summarize(mode, samples, options.connections, options.rate or None, generator_rate)
    recorded = Console(record=True, quiet=as_json, file=console.file, width=80)
    show(result, samples.latency, recorded)
    if picture is not None:
        recorded.save_svg(str(picture), title=f"recsys bench {options.url}")
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    return result


async def run_requests(
    options: BenchOptions, clicks: Iterator[BenchClick], host: str, port: int, console: Console
) -> Samples:
    await _check_service(options)

    async def measure(seconds: float) -> Samples:
        if options.rate:
            requests = prepared_requests(
                options, first_clicks(clicks, round(options.rate * seconds))
            )
            return await paced(
                requests, host, port, rate=options.rate, connections=options.connections
            )
        requests = prepared_requests(options, first_clicks(clicks, MAX_PREPARED))
        return await saturating(
            requests, host, port, seconds=seconds, connections=options.connections
        )

    if options.warmup:
        with console.status(f"Warming up for {options.warmup:g} s"):
            await measure(options.warmup)
    with console.status(f"Measuring for {options.seconds:g} s"):
        return await measure(options.seconds)


async def _check_service(options: BenchOptions) -> None:
    """Raise `BadInput` if the service does not answer or refuses the key."""
    try:
        async with AsyncClient(options.url, api_key=options.api_key) as client:
            await client.model()
    except ServiceUnreachable as unreachable:
        problem = f"{unreachable} Start it with recsys serve."
        raise BadInput("The service cannot be reached", [problem]) from unreachable
    except ServiceRefused as refused:
        if refused.status in (401, 403):
            raise BadInput("The service needs a valid key (--api-key)", [str(refused)]) from refused


def prepared_requests(options: BenchOptions, clicks: Sequence[BenchClick]) -> list[Request]:
    """Build the bytes of all requests before the first one is due."""
    host, port = options.address
    headers = {} if options.api_key is None else {"Authorization": f"Bearer {options.api_key}"}
    requests = []
    for number, click in enumerate(clicks):
        body: dict[str, object] = {"user_id": click.user_id, "item_id": click.item_id}
        body["k"] = options.k
        if options.filters:
            body["filter"] = options.filters[number % len(options.filters)]
        if options.with_event_ids:
            body["event_id"] = f"{click.user_id}-{number}"
        payload = post(host, port, PATH, json.dumps(body).encode(), headers)
        requests.append(Request(click.user_id, payload))
    return requests
