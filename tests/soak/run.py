"""What takes longer than a test may: reloads, kills, overload, mutants, with figures.

    python tests/soak/run.py             # all of it, about an hour
    python tests/soak/run.py overload    # one part; each has --help

Every part trains a small shop where no bundle is given, starts real servers and a real Redis, and
ends with a table: measured, promised, holds. Ends with 1 where anything promised does not hold.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import typer
from rich.console import Console
from rich.table import Table

from tests.soak.bounds import Bound, show
from tests.soak.cross_talk import cross_talk as visited
from tests.soak.failover import DEPLOYMENTS, fail_over
from tests.soak.full_disk import full_disk
from tests.soak.kills import (
    cut_power,
    kill_redis,
    kill_server,
    kill_worker,
    stop_server,
    turn_the_clock,
)
from tests.soak.laws import laws as drawn
from tests.soak.mutants import mutants as damaged
from tests.soak.overload import overload as overloaded
from tests.soak.reload import reload as reloaded
from tests.soak.states import states as played
from tests.support.bundles.small_shops import small_shop

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
console = Console(width=110)
BundleOption = Annotated[Path | None, typer.Option(help="Bundle folder, instead of a new one.")]
Part = tuple[str, Callable[[Path, Path], list[Bound]]]  # its title, and what measures it


def run(parts: Sequence[Part], bundle: Path | None) -> None:
    """One after another, each with its table; a table of all of them at the end."""
    summary = Table("", "figures", "broken", "seconds", title="All of it", title_justify="left")
    kept = True
    with ExitStack() as stack:
        shop = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recsys-soak-")))
        with console.status("Training a small shop"):
            bundle = bundle or small_shop(shop)
        for title, measure in parts:
            began = time.monotonic()
            with (
                tempfile.TemporaryDirectory(prefix="recsys-soak-") as folder,
                console.status(title),
            ):
                bounds = measure(bundle, Path(folder))
            kept = show(title, bounds, console) and kept
            broken = "; ".join(bound.what for bound in bounds if not bound.holds)
            seconds = f"{time.monotonic() - began:.0f}"
            summary.add_row(title, str(len(bounds)), broken or "none", seconds)
    console.print(summary)
    if not kept:
        raise typer.Exit(1)


def overload_parts(seconds: float = 60.0, slow_ms: float = 2.8) -> list[Part]:
    return [("Overload", partial(overloaded, seconds=seconds, slow_ms=slow_ms))]


def reload_parts(reloads: int = 50) -> list[Part]:
    return [
        (f"Reloads, {workers} worker(s)", partial(reloaded, reloads=reloads, workers=workers))
        for workers in (1, 2)
    ]


def kill_parts(kills: int = 20) -> list[Part]:
    return [
        ("kill -9 of the server", partial(kill_server, kills=kills)),
        ("kill -9 of Redis, AOF always", partial(kill_redis, kills=kills, always=True)),
        ("kill -9 of Redis, AOF everysec", partial(kill_redis, kills=kills, always=False)),
        ("Power cut, AOF everysec", partial(cut_power, kills=min(kills, 5))),
    ]


def failover_parts() -> list[Part]:
    return [
        ("Failover by sentinels", partial(fail_over, opened=DEPLOYMENTS["sentinel"])),
        ("Failover behind an address", partial(fail_over, opened=DEPLOYMENTS["address"])),
        ("Failover on a cluster", partial(fail_over, opened=DEPLOYMENTS["cluster"])),
    ]


def process_parts(times: int = 10) -> list[Part]:
    return [
        ("SIGTERM under load", partial(stop_server, kills=times)),
        ("kill -9 of one worker of two", partial(kill_worker, kills=times)),
        ("Clocks that jump", turn_the_clock),
        ("Full disks", full_disk),
    ]


def state_parts(plays: int = 10_000) -> list[Part]:
    return [("Whatever happens, in whatever order", partial(played, plays=plays))]


def law_parts() -> list[Part]:
    return [("Laws with many examples", drawn)]


def cross_talk_parts(users: int = 200, requests: int = 200) -> list[Part]:
    return [("Cross-talk", partial(visited, users=users, requests=requests))]


def mutant_parts(bundles: int = 1000, clicks: int = 2000, by_command: int = 20) -> list[Part]:
    measure = partial(damaged, bundles=bundles, clicks=clicks, by_command=by_command)
    return [("Damaged bundles and click files", measure)]


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, bundle: BundleOption = None) -> None:
    if context.invoked_subcommand is None:
        run(
            [
                *overload_parts(),
                *reload_parts(),
                *kill_parts(),
                *failover_parts(),
                *state_parts(),
                *law_parts(),
                *cross_talk_parts(),
                *mutant_parts(),
            ],
            bundle,
        )


@app.command()
def overload(
    bundle: BundleOption = None,
    seconds: float = 60.0,
    slow_ms: Annotated[float, typer.Option(help="What each list takes.")] = 2.8,
) -> None:
    """Three times the capacity for a while: what is accepted is quick, the rest is refused."""
    run(overload_parts(seconds, slow_ms), bundle)


@app.command()
def reload(bundle: BundleOption = None, reloads: int = 50) -> None:
    """Roll-outs under load, every third one broken: no answer fails, and memory stays."""
    run(reload_parts(reloads), bundle)


@app.command()
def kills(bundle: BundleOption = None, kills: int = 20) -> None:
    """kill -9 of the server, then of Redis, under load: nothing acknowledged is lost."""
    run(kill_parts(kills), bundle)


@app.command()
def failover(bundle: BundleOption = None) -> None:
    """A primary is replaced, in three ways: clicks are stored again within 2 s, none is lost."""
    run(failover_parts(), bundle)


@app.command()
def processes(bundle: BundleOption = None, times: int = 10) -> None:
    """SIGTERM, a worker killed, clocks that jump, disks that are full."""
    run(process_parts(times), bundle)


@app.command()
def states(bundle: BundleOption = None, plays: int = 10_000) -> None:
    """Random interleavings of clicks, repeats, reads, deletions, pauses, reloads, lost caches."""
    run(state_parts(plays), bundle)


@app.command()
def laws(bundle: BundleOption = None) -> None:
    """Every property test with 500 examples instead of 25."""
    run(law_parts(), bundle)


@app.command()
def cross_talk(bundle: BundleOption = None, users: int = 200, requests: int = 200) -> None:
    """Visitors who leave while Redis dawdles: nobody is answered with another's list."""
    run(cross_talk_parts(users, requests), bundle)


@app.command()
def mutants(
    bundle: BundleOption = None, bundles: int = 1000, clicks: int = 2000, by_command: int = 20
) -> None:
    """Bundles and click files damaged at random: a sentence each, no traceback, no hang."""
    run(mutant_parts(bundles, clicks, by_command), bundle)


if __name__ == "__main__":
    app()
