"""Long tests with measurements: reloads, kills, overload, damaged files.

    python tests/soak/run.py             # all parts, about an hour
    python tests/soak/run.py overload    # one part; each has --help

Each part starts real servers and a real Redis and prints a table: measured, promised, holds.
Without `--bundle` a small shop is trained first. The exit status is 1 if a promise is broken.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import typer
from rich.console import Console
from rich.table import Table

from tests.soak.bounds import Bound, show
from tests.soak.catalogue import catalogue as change_items
from tests.soak.cross_talk import cross_talk as measure_cross_talk
from tests.soak.failover import DEPLOYMENTS, fail_over
from tests.soak.feedback import kill_at_work, kill_everything
from tests.soak.full_disk import full_disk
from tests.soak.kills import (
    cut_power,
    kill_redis,
    kill_server,
    kill_worker,
    shift_clocks,
    stop_server,
)
from tests.soak.laws import laws as run_laws
from tests.soak.mutants import mutants as try_mutants
from tests.soak.overload import overload as measure_overload
from tests.soak.reload import reload as measure_reload
from tests.soak.states import states as play_states
from tests.support.bundles.small_shops import small_shop

console = Console(width=110)
BundleOption = Annotated[Path | None, typer.Option(help="Bundle folder, instead of a new one.")]
Part = tuple[str, Callable[[Path, Path], list[Bound]]]  # title and measurement


@dataclass(frozen=True, slots=True)
class Job:
    """Parts to run on one bundle; without a bundle, on a new small shop."""

    bundle: Path | None
    parts: Sequence[Part]


def run(job: Job, **_: object) -> None:
    """Run the parts in turn and print a table for each, then one for all."""
    summary = Table("", "bounds", "broken", "seconds", title="All parts", title_justify="left")
    all_hold = True
    with ExitStack() as stack:
        shop = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recsys-soak-")))
        with console.status("Training a small shop"):
            bundle = job.bundle or small_shop(shop)
        for title, measure in job.parts:
            began = time.monotonic()
            with (
                tempfile.TemporaryDirectory(prefix="recsys-soak-") as folder,
                console.status(title),
            ):
                bounds = measure(bundle, Path(folder))
            all_hold = show(title, bounds, console) and all_hold
            broken = "; ".join(bound.name for bound in bounds if not bound.holds)
            seconds = f"{time.monotonic() - began:.0f}"
            summary.add_row(title, str(len(bounds)), broken or "none", seconds)
    console.print(summary)
    if not all_hold:
        raise typer.Exit(1)


app = typer.Typer(pretty_exceptions_enable=False, help=__doc__, result_callback=run)


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, bundle: BundleOption = None) -> Job | None:
    """Return all parts except `processes`, unless one command is given."""
    if context.invoked_subcommand is not None:
        return None
    makers = (
        overload,
        reload,
        kills,
        feedback,
        failover,
        catalogue,
        states,
        laws,
        cross_talk,
        mutants,
    )
    return Job(bundle, [part for make in makers for part in make().parts])


@app.command()
def overload(
    bundle: BundleOption = None,
    seconds: float = 60.0,
    slow_ms: Annotated[float, typer.Option(help="Milliseconds that each list takes.")] = 2.8,
) -> Job:
    """Offer three times the capacity: accepted requests are quick, the rest is refused."""
    measure = partial(measure_overload, seconds=seconds, slow_ms=slow_ms)
    return Job(bundle, [("Overload", measure)])


@app.command()
def reload(bundle: BundleOption = None, reloads: int = 50) -> Job:
    """Roll out bundles under load, every third one broken: no answer fails, memory is constant."""
    parts = [
        (f"Reloads, {workers} worker(s)", partial(measure_reload, reloads=reloads, workers=workers))
        for workers in (1, 2)
    ]
    return Job(bundle, parts)


@app.command()
def kills(bundle: BundleOption = None, kills: int = 20) -> Job:
    """Kill the server and Redis under load: no acknowledged click is lost."""
    parts: list[Part] = [
        ("kill -9 of the server", partial(kill_server, kills=kills)),
        ("kill -9 of Redis, AOF always", partial(kill_redis, kills=kills, always=True)),
        ("kill -9 of Redis, AOF everysec", partial(kill_redis, kills=kills, always=False)),
        ("Power cut, AOF everysec", partial(cut_power, kills=min(kills, 5))),
    ]
    return Job(bundle, parts)


@app.command()
def feedback(bundle: BundleOption = None, kills: int = 21) -> Job:
    """Kill collectors, the server and Redis under load: each acknowledged click is logged once."""
    parts: list[Part] = [
        ("kill -9 of collectors, server and Redis", partial(kill_everything, kills=kills)),
        ("kill -9 of collectors at work", partial(kill_at_work, kills=kills)),
    ]
    return Job(bundle, parts)


@app.command()
def failover(bundle: BundleOption = None) -> Job:
    """Replace a Redis primary in three ways: clicks are stored again within 2 s, none is lost."""
    parts = [
        ("Failover by sentinels", partial(fail_over, opened=DEPLOYMENTS["sentinel"])),
        ("Failover behind an address", partial(fail_over, opened=DEPLOYMENTS["address"])),
        ("Failover on a cluster", partial(fail_over, opened=DEPLOYMENTS["cluster"])),
    ]
    return Job(bundle, parts)


@app.command()
def processes(bundle: BundleOption = None, times: int = 10) -> Job:
    """Stop the server, kill a worker, shift the clocks, fill the disk."""
    parts: list[Part] = [
        ("SIGTERM under load", partial(stop_server, kills=times)),
        ("kill -9 of one worker of two", partial(kill_worker, kills=times)),
        ("Clocks that jump", shift_clocks),
        ("Full disks", full_disk),
    ]
    return Job(bundle, parts)


@app.command()
def states(bundle: BundleOption = None, plays: int = 10_000) -> Job:
    """Interleave clicks, repeats, reads, deletions, pauses, reloads and lost caches at random."""
    return Job(bundle, [("Random interleavings of events", partial(play_states, plays=plays))])


@app.command()
def catalogue(
    bundle: BundleOption = None, changes: int = 10_000, rate: float = 500.0, seconds: float = 60.0
) -> Job:
    """Sell items out under load, with reloads and failures: none is shown two seconds later."""
    measure = partial(change_items, changes=changes, rate=rate, seconds=seconds)
    return Job(bundle, [("Law of availability", measure)])


@app.command()
def laws(bundle: BundleOption = None) -> Job:
    """Run every property test with 500 examples instead of 25."""
    return Job(bundle, [("Property tests with many examples", run_laws)])


@app.command()
def cross_talk(bundle: BundleOption = None, users: int = 200, requests: int = 200) -> Job:
    """Abandon requests while Redis answers slowly: no user gets the list of another."""
    measure = partial(measure_cross_talk, users=users, requests=requests)
    return Job(bundle, [("Cross-talk", measure)])


@app.command()
def mutants(
    bundle: BundleOption = None, bundles: int = 1000, clicks: int = 2000, by_command: int = 20
) -> Job:
    """Damage bundles and click files at random: one sentence each, no traceback, no hang."""
    measure = partial(try_mutants, bundles=bundles, clicks=clicks, by_command=by_command)
    return Job(bundle, [("Damaged bundles and click files", measure)])


if __name__ == "__main__":
    app()
