"""Measure the service: throughput, latency, recall of retrieval, and memory of Redis.

    python tests/benchmarks/serving.py shop --items 50000 runs/50k           # train a bundle
    python tests/benchmarks/serving.py compare --bundle runs/50k/bundle      # with the reference
    python tests/benchmarks/serving.py against --bundle runs/50k/bundle --other ../before
    python tests/benchmarks/serving.py paced --bundle runs/50k/bundle --rate 1000 --seconds 60
    python tests/benchmarks/serving.py feedback --bundle runs/50k/bundle --rate 1000
    python tests/benchmarks/serving.py split --bundle runs/50k/bundle --variant runs/100k/bundle
    python tests/benchmarks/serving.py connections --bundle runs/50k/bundle
    python tests/benchmarks/serving.py users                                 # bytes in Redis
    python tests/benchmarks/serving.py events                                # of the feedback

Every command starts a redis-server and the servers to measure as processes on this machine, and
stops them again. `recsys bench` generates the load.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import httpx
import numpy as np
import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from data.synthetic import write_shop
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import ITEMS
from recsys.bundle.registry import publish
from recsys.catalogue.catalogue import read_catalogue
from recsys.retrieval.exact import RankingQuery
from service.bench.workload import first_clicks, sample_clicks, sample_values
from service.feedback.entries import read_entry, stream_keys
from service.feedback.impressions import Impressions
from service.server.embedded_redis import free_port, private_redis
from service.store.click import Click
from service.store.session_store import ComputedState, RedisStore, StoredSession, StoreLimits, Visit
from service.store.state_codec import StateTag, encode
from service.store.user_keys import user_key
from tests.support.redis.stores import redis_client_for
from tests.support.service.otlp_receiver import receiving
from tests.support.service.processes import family, processor_seconds, resident

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PRODUCTS = 200  # of each maker in the synthetic shop
USERS_AT_ONCE = 100
LIMITS = StoreLimits(
    history_length=50, idle_seconds=86_400, event_ids_kept=1000, tombstone_seconds=300
)
CONNECTIONS = (1, 4, 16, 32, 64, 128, 256)
WARMUP_SECONDS = 2.0
RESAMPLES = 2000  # for the interval of a median
CLICKED_SHARE = 0.8  # rough share of products with clicks in a shop of many makers
Workers = Annotated[int, typer.Option(help="Number of worker processes.")]
Bundle = Annotated[Path, typer.Option(help="Bundle folder.")]
Rounds = Annotated[int, typer.Option(help="Rounds of each start.")]
Starts = Annotated[int, typer.Option(help="How often both are started anew.")]
Item = TypeVar("Item")


@app.command()
def shop(
    out: Path,
    items: int = 50_000,
    hidden: int = 128,
    clicks_per_item: float = 10.0,
    epochs: int = 4,
    test_fraction: float = 0.001,
) -> None:
    """Write a synthetic shop with so many items, and train a model on it."""
    out.mkdir(parents=True)
    makers = max(round(items / PRODUCTS / CLICKED_SHARE), 1)
    with console.status(f"Writing a shop of {makers:,} makers"):
        write_shop(out, makers=makers, sessions=round(items * clicks_per_item / 6))
    settings = {"hidden": hidden, "epochs": epochs, "validation": 0.0}
    settings |= {"dropout_embedding": 0.2, "dropout_hidden": 0.1}
    subprocess.run(
        [
            *(sys.executable, "-m", "recsys", "train", "--clicks", str(out / "clicks.csv")),
            *("--recipe", "default"),
            *("--out", str(out / "bundle"), "--test-fraction", str(test_fraction)),
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ],
        check=True,
    )


@app.command()
def compare(
    bundle: Bundle,
    rounds: int = 5,
    seconds: float = 8.0,
    connections: int = 32,
    workers: Workers = 2,
) -> None:
    """Compare the throughput with tests/benchmarks/reference_server.py, in turns."""
    rates: dict[str, list[float]] = {"service": [], "reference": []}
    with (
        private_redis() as redis,
        service(bundle, redis, workers) as ours,
        reference(bundle, redis) as theirs,
    ):
        for at in range(rounds):
            for name, server in (("service", ours), ("reference", theirs)):
                result = bench(bundle, server.url, seconds=seconds, connections=connections)
                rates[name].append(result["rate"])
                console.print(f"round {at + 1}, {name}: {line(result)}")
    ratios = [a / b for a, b in zip(rates["service"], rates["reference"], strict=True)]
    for name, values in rates.items():
        console.print(f"{name}: median {statistics.median(values):,.0f} requests/s")
    console.print(f"ratio: median {statistics.median(ratios):.2f}, of {sorted(ratios)}")


@app.command()
def against(
    bundle: Bundle,
    other: Annotated[Path, typer.Option(help="Checkout of another commit.")] = ROOT,
    other_bundle: Annotated[
        Path | None, typer.Option(help="Bundle of the other one.", show_default="the same")
    ] = None,
    rounds: Rounds = 2,
    starts: Starts = 4,
    seconds: float = 8.0,
    connections: int = 32,
    rate: Annotated[float, typer.Option(help="Requests a second; 0: as many as possible.")] = 0.0,
    workers: Workers = 1,
) -> None:
    """Compare this checkout and bundle with another one, in turns."""
    options = {"rate": rate} if rate else {}
    turns = Turns(starts, rounds, seconds, workers, options | {"connections": connections})
    in_turns(
        bundle, {"this": Case(bundle), "other": Case(other_bundle or bundle, {}, other)}, turns
    )


@app.command()
def paced(
    bundle: Bundle,
    rate: float = 1000.0,
    seconds: float = 60.0,
    connections: int = 64,
    rounds: int = 1,
    visitors: int = 300,
    workers: Workers = 2,
    k: int = 20,
    filter_by: Annotated[
        str | None, typer.Option(help="Filter by this attribute, the value of a random item.")
    ] = None,
) -> None:
    """Measure latencies at a fixed rate, and the recall of the served lists against exact lists."""
    filtering: dict[str, float | str] = {} if filter_by is None else {"filter-by": filter_by}
    with private_redis() as redis, service(bundle, redis, workers) as ours:
        for at in range(rounds):
            options = {"rate": rate, "connections": connections, "seed": at + 1, "k": k}
            result = bench(bundle, ours.url, seconds=seconds, **options, **filtering)
            console.print(f"round {at + 1}: {line(result)}")
        for process in map(resident, family(ours.pid)):
            console.print(
                f"resident: {process.rss:,.0f} MB, proportional {process.pss:,.0f}, "
                f"private {process.private:,.0f}"
            )
        console.print(f"ready after {ours.ready_s:.1f} s")
        share = recall(bundle, ours.url, visitors, k, filter_by)
        console.print(f"recall@{k} against exact lists: {share:.4f}")


@app.command()
def feedback(
    bundle: Bundle,
    rate: float = 1000.0,
    seconds: float = 20.0,
    connections: int = 64,
    rounds: Rounds = 2,
    starts: Starts = 4,
    workers: Workers = 1,
) -> None:
    """Compare a service that logs feedback with one that does not, in turns."""
    logging = {"RECSYS_FEEDBACK": "stream", "RECSYS_FEEDBACK_MAX_MB": "10000"}
    turns = Turns(starts, rounds, seconds, workers, {"rate": rate, "connections": connections})
    cases = {"feedback": Case(bundle, logging), "off": Case(bundle)}
    in_turns(
        bundle,
        cases,
        turns,
        lambda name, _, redis, requests: asyncio.run(print_redis(name, redis, requests)),
    )


async def print_redis(name: str, url: str, requests: float) -> None:
    """Print the processor time of a Redis for a request, and what is in the feedback streams."""
    entries, size = [], await _stream_bytes(url)
    async with Redis.from_url(url) as client:
        cpu = await client.info("cpu")
        spent = 1e6 * (cpu["used_cpu_sys"] + cpu["used_cpu_user"]) / requests
        console.print(f"{name}: {spent:.0f} µs of Redis a request")
        for key in stream_keys():
            found: Any = await client.xrange(key)
            entries += [read_entry(fields) for _, fields in found]
    if entries:
        kinds = Counter(type(entry).__name__ for entry in entries)
        console.print(f"{name}: {dict(kinds)}, {size / len(entries):.0f} bytes an entry")


@app.command()
def split(
    bundle: Bundle,
    variant: Annotated[Path, typer.Option(help="Bundle that answers a share of the users.")],
    share: Annotated[float, typer.Option(help="Percent of the users.")] = 50.0,
    rate: float = 500.0,
    seconds: float = 20.0,
    connections: int = 64,
    rounds: Rounds = 2,
    starts: Starts = 2,
    workers: Workers = 1,
) -> None:
    """Compare a service that runs an experiment with one that does not, in turns; print memory."""
    turns = Turns(starts, rounds, seconds, workers, {"rate": rate, "connections": connections})
    with TemporaryDirectory() as folder:
        registries = [Path(folder, name) for name in ("split", "alone")]
        for registry, shares in zip(registries, ({"variant": share}, None), strict=True):
            registry.mkdir()
            (registry / "main").symlink_to(bundle.resolve())
            (registry / "variant").symlink_to(variant.resolve())
            publish(registry, "main", shares)
        cases = dict(zip(("experiment", "one model"), map(Case, registries), strict=True))
        in_turns(bundle, cases, turns, lambda name, server, *_: print_memory(name, server))


def print_memory(name: str, server: "Server") -> None:
    """Print the memory of all processes of a server."""
    memory = [resident(pid) for pid in family(server.pid)]
    rss, written = (sum(getattr(m, figure) for m in memory) for figure in ("rss", "written"))
    console.print(f"{name}: {rss:,.0f} MB resident, {written:,.0f} MB of its own")


@app.command()
def tracing(
    bundle: Bundle,
    share: Annotated[float, typer.Option(help="Share of the requests that are traced.")] = 0.01,
    rate: float = 500.0,
    seconds: float = 10.0,
    connections: int = 64,
    rounds: Rounds = 2,
    starts: Starts = 2,
    workers: Workers = 1,
) -> None:
    """Compare tracing with a service without it, and this with one without its packages."""
    turns = Turns(starts, rounds, seconds, workers, {"rate": rate, "connections": connections})
    with TemporaryDirectory() as folder, receiving() as receiver:
        hidden = "import sys\nsys.modules['opentelemetry.sdk'] = None\n"
        Path(folder, "sitecustomize.py").write_text(hidden, encoding="utf-8")
        absent = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
        on = {
            "RECSYS_TRACING": "true",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(share),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        }
        pairs = {"tracing": ({"on": on, "off": {}}), "packages": ({"off": {}, "absent": absent})}
        for compared, cases in pairs.items():
            console.print(f"{compared}: {' against '.join(cases)}")
            in_turns(bundle, {name: Case(bundle, own) for name, own in cases.items()}, turns)
        console.print(f"{len(receiver.spans):,} spans arrived, {len(receiver.bytes):,} bytes")


@dataclass(frozen=True, slots=True)
class Case:
    """Service to measure; checkout: folder of its code, None for this one."""

    bundle: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    checkout: Path | None = None


@dataclass(frozen=True, slots=True)
class Turns:
    """How two services are measured in turns.

    Two equal services can differ by a tenth and more, depending on which one was started first. So
    both are started anew `starts` times, each time the other one first.
    """

    starts: int
    rounds: int  # of each start
    seconds: float  # of each round
    workers: int
    options: Mapping[str, float]  # of `recsys bench`


def in_turns(
    bundle: Path,
    cases: Mapping[str, Case],
    turns: Turns,
    after: Callable[[str, "Server", str, float], None] = lambda *_: None,
) -> None:
    """Measure two services in turns, and print each figure of the first over the second.

    `cpu` is the processor time of the server's processes for a request, in ms; it includes that of
    the warm-up.

    Args:
        bundle: of the items that are clicked.
        cases: the services.
        turns: how often and for how long; each service has a Redis of its own.
        after: called at the end of each start with the name of each service, its server, the URL of
            its Redis, and about how many requests it had.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for start in range(turns.starts):
        with ExitStack() as stack:
            redis = {name: stack.enter_context(private_redis()) for name in cases}
            servers = {
                name: stack.enter_context(
                    service(case.bundle, redis[name], turns.workers, case.checkout, case.settings)
                )
                for name, case in in_order(cases.items(), start)
            }
            requests = 0.0
            for at in range(turns.rounds):
                for name, server in in_order(servers.items(), at):
                    result = measured(bundle, server, turns)
                    results[name].append(result)
                    requests += result["requests"] / len(cases)
                    console.print(f"round {len(results[name])}, {name}: {line(result)}")
            for name, server in servers.items():
                after(name, server, redis[name], requests)
    print_ratios(results, turns.starts)


def in_order(pairs: Iterable[tuple[str, Item]], at: int) -> list[tuple[str, Item]]:
    """Return the pairs, backwards every other time."""
    return list(pairs)[:: 1 if at % 2 == 0 else -1]


def measured(bundle: Path, server: "Server", turns: Turns) -> dict[str, Any]:
    """Return the result of one round, with the processor time and the number of requests."""
    before = sum(map(processor_seconds, family(server.pid)))
    result = bench(bundle, server.url, seconds=turns.seconds, **turns.options)
    spent = sum(map(processor_seconds, family(server.pid))) - before
    requests = result["rate"] * (turns.seconds + min(WARMUP_SECONDS, turns.seconds))
    return result | {"cpu": 1000 * spent / requests, "requests": requests}


def print_ratios(results: Mapping[str, Sequence[Mapping[str, Any]]], starts: int) -> None:
    """Print each figure of the first server over the second: the median ratio of the rounds.

    The interval is that of starts drawn anew, because the rounds of a start are alike; of rounds,
    where there is one start.
    """
    for figure in ("rate", "p50", "p90", "p99", "cpu"):
        first, second = (np.array([row[figure] for row in rows]) for rows in results.values())
        ratios, draw = first / second, np.random.default_rng(1)
        groups = ratios.reshape(starts if starts > 1 else len(ratios), -1)
        drawn = groups[draw.integers(len(groups), size=(RESAMPLES, len(groups)))]
        low, high = np.quantile(np.median(drawn.reshape(RESAMPLES, -1), axis=1), (0.025, 0.975))
        medians = [
            f"{name} {np.median(values):,.3f}"
            for name, values in zip(results, (first, second), strict=True)
        ]
        console.print(
            f"{figure}: {', '.join(medians)}, ratio {np.median(ratios):.3f} "
            f"(95 % {low:.3f} to {high:.3f})"
        )


@app.command(name="connections")
def by_connections(
    bundle: Bundle, seconds: float = 5.0, most: int = 256, workers: Workers = 2
) -> None:
    """Measure throughput and latency from 1 to so many connections."""
    table = Table("connections", "requests/s", "p50 ms", "p90 ms", "p99 ms", "errors")
    with private_redis() as redis, service(bundle, redis, workers) as ours:
        for connections in [number for number in CONNECTIONS if number <= most]:
            result = bench(bundle, ours.url, seconds=seconds, connections=connections)
            cells = [f"{result['rate']:,.0f}", *(f"{result[p]:.2f}" for p in ("p50", "p90", "p99"))]
            table.add_row(str(connections), *cells, str(result["errors"] or "none"))
    console.print(table)


@app.command()
def users(count: int = 100_000, clicks: int = 20, hidden: int = 128) -> None:
    """Measure the bytes of Redis per user, without and with event ids; item ids have 9 digits."""
    for with_event_ids in (False, True):
        with private_redis() as url:
            size = asyncio.run(bytes_per_user(url, count, clicks, hidden, with_event_ids))
        which = "with" if with_event_ids else "without"
        console.print(f"{which} event ids: {size:,.0f} bytes a user, {count:,} users")


@app.command()
def events(count: int = 100_000, k: int = 20) -> None:
    """Measure the bytes of Redis per click and per list of the feedback; item ids have 9 digits."""
    with private_redis() as url:
        click, shown = asyncio.run(bytes_per_event(url, count, k))
    console.print(f"{click:,.0f} bytes a click, {shown:,.0f} a list of {k} items")


async def bytes_per_event(url: str, count: int, k: int) -> tuple[float, float]:
    """Log so many clicks with a list id, then as many lists; return the bytes of each."""
    draw, redis_client, plenty = np.random.default_rng(1), redis_client_for(url), 10**12
    store = RedisStore(redis_client, replace(LIMITS, stream_bytes=plenty))
    lists = Impressions(redis_client, plenty, lambda outcome, number: None)
    sizes = []
    for start in range(0, count, USERS_AT_ONCE):
        users = range(start, min(start + USERS_AT_ONCE, count))
        click = replace(_click(draw, None), list_id="Zk3J9x_Q.1042000")
        await store.visit([Visit(f"user-{n}", (click,), "0123456789abcdef") for n in users])
    sizes.append(await _stream_bytes(url, delete=True))
    for start in range(0, count, USERS_AT_ONCE):
        for number in range(start, min(start + USERS_AT_ONCE, count)):
            items = [str(item) for item in draw.integers(100_000_000, 999_999_999, k)]
            key, model = user_key(f"stranger-{number}", b"secret"), "0123456789abcdef"
            lists.add(key, "", model_id=model, variant=None, source="model", items=items)
        await lists.flush()
    sizes.append(await _stream_bytes(url))
    await lists.close()
    await redis_client.close()
    return sizes[0] / count, sizes[1] / count


async def _stream_bytes(url: str, *, delete: bool = False) -> int:
    """Return the bytes of all streams; then delete them if wanted."""
    async with Redis.from_url(url) as client:
        sizes = [await client.memory_usage(key, samples=0) or 0 for key in stream_keys()]
        if delete:
            await client.delete(*stream_keys())
    return sum(sizes)


async def bytes_per_user(
    url: str, count: int, clicks: int, hidden: int, with_event_ids: bool
) -> float:
    """Store so many clicks and a hidden state for each user; return the bytes per user."""
    client, draw = Redis.from_url(url), np.random.default_rng(1)
    redis_client = redis_client_for(url)
    store = RedisStore(redis_client, LIMITS)
    await store.visit([Visit("first")])
    before = (await client.info("memory"))["used_memory"]
    for start in range(0, count, USERS_AT_ONCE):
        names = [f"user-{number}" for number in range(start, min(start + USERS_AT_ONCE, count))]
        visits = [
            Visit(
                name,
                [_click(draw, f"{name}-{at}" if with_event_ids else None) for at in range(clicks)],
            )
            for name in names
        ]
        sessions = await store.visit(visits)
        states = []
        for name, session in zip(names, sessions, strict=True):
            assert isinstance(session, StoredSession), session
            numbers = draw.standard_normal((1, hidden), dtype=np.float32)
            blob = encode(StateTag("0123456789abcdef", session.nonce, session.count), numbers)
            states.append(ComputedState(name, session.head, blob))
        stored, _ = await store.exchange(states, [])
        assert stored == len(states), f"{stored} of {len(states)} states were stored"
    after = (await client.info("memory"))["used_memory"]
    await redis_client.close()
    await client.aclose()
    return float(after - before) / count


def _click(draw: np.random.Generator, event_id: str | None) -> Click:
    return Click(str(draw.integers(100_000_000, 999_999_999)), event_id)


class Server:
    """Server process that answers at `url`; the constructor waits until it is ready."""

    def __init__(
        self,
        command: list[str],
        url: str,
        ready: str,
        checkout: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.url = url
        began = time.monotonic()
        root = (checkout or ROOT).resolve()
        code = {"PYTHONPATH": f"{root}{os.pathsep}{root / 'clients' / 'python'}"}
        self._process = subprocess.Popen(
            [sys.executable, *command], env={**os.environ, **code, **settings}, cwd=checkout
        )
        self.pid = self._process.pid
        while not self._answers(ready):
            if self._process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {self._process.returncode}.")
            time.sleep(0.1)
        self.ready_s = time.monotonic() - began

    def _answers(self, ready: str) -> bool:
        try:
            return httpx.get(self.url + ready, timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


@contextmanager
def service(
    bundle: Path,
    redis: str,
    workers: int,
    checkout: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run the service; checkout: folder of the code, default this one."""
    port = free_port()
    given = ["--bundle", str(bundle.resolve()), "--redis", redis, "--port", str(port)]
    given += ["--workers", str(workers)]
    command = ["-m", "recsys", "serve", *given]
    with running(command, port, "/health/ready", checkout, settings) as server:
        yield server


@contextmanager
def reference(bundle: Path, redis: str) -> Iterator[Server]:
    port, script = free_port(), str(HERE / "reference_server.py")
    given = ["--bundle", str(bundle), "--redis", redis, "--port", str(port)]
    with running([script, *given], port, "/openapi.json") as server:
        yield server


@contextmanager
def running(
    command: list[str],
    port: int,
    ready: str,
    checkout: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    server = Server(command, f"http://127.0.0.1:{port}", ready, checkout, settings)
    try:
        yield server
    finally:
        server.stop()


def bench(bundle: Path, url: str, *, seconds: float, **options: float | str) -> dict[str, Any]:
    """Run `recsys bench` and return its JSON; the warm-up is no longer than the measurement."""
    options |= {"seconds": seconds, "warmup": min(WARMUP_SECONDS, seconds)}
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "recsys", "bench", "--bundle", str(bundle), "--url", url),
            *("--json", "--no-ceiling", *given),
        ],
        stdout=subprocess.PIPE,
        check=False,
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def line(result: dict[str, Any]) -> str:
    times = "  ".join(f"{name} {result[name]:.2f}" for name in ("p50", "p90", "p99", "max"))
    return f"{result['rate']:,.0f} requests/s  {times} ms  errors {result['errors'] or 'none'}"


def recall(bundle: Path, url: str, visitors: int, k: int, filter_by: str | None) -> float:
    """Return the share of the exact top k in the served lists, for visitors like the load."""
    exact = open_predictor(bundle).with_exact_retrieval()
    catalogue = read_catalogue(bundle / ITEMS)
    ids = catalogue.item_ids.take(catalogue.by_popularity.tolist())
    sampled = sample_clicks(ids, visitors=visitors, popularity=0.8, length=1.5, seed=99)
    clicks = first_clicks(sampled, 4 * visitors)
    sessions: dict[str, list[str]] = {}
    both = wanted = 0
    values = [] if filter_by is None else sample_values(catalogue.attributes[filter_by], seed=99)
    with httpx.Client(base_url=url) as client:
        for number, click in enumerate(clicks):
            sessions.setdefault(click.user_id, []).append(click.item_id)
            body: dict[str, Any] = {"user_id": click.user_id, "item_id": click.item_id, "k": k}
            query = RankingQuery(k)
            if filter_by is not None:
                body["filter"] = {filter_by: [values[number % len(values)]]}
                query = RankingQuery(k, allowed=catalogue.allowed(body["filter"]))
            answer = client.post("/v1/recommendations", json=body).raise_for_status().json()
            served = {item["item_id"] for item in answer["items"]}
            known = [catalogue.index(item_id) for item_id in sessions[click.user_id]]
            top_k = {catalogue.item_ids[item] for item in exact.recommend(known, query).items}
            both, wanted = both + len(top_k & served), wanted + len(top_k)
    return both / wanted


if __name__ == "__main__":
    app()
