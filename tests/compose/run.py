"""Build and start docker-compose.yml, send requests, cause faults, and remove it again.

    python tests/compose/run.py                                  # some minutes, needs Docker
    python tests/compose/run.py --clicks clicks.parquet          # instead of a synthetic shop
    python tests/compose/run.py --bundle runs/50k/bundle --rate 500     # load on this bundle

The project has its own name and volumes, which are removed at the end; another project that runs
from the same folder is not affected. Prints a table; the exit status is 1 if a claim does not hold.
"""

import dataclasses
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import typer
from rich.console import Console
from rich.table import Table

from service.middleware.auth import hash_of, new_key
from service.server.embedded_redis import free_port
from tests.compose import claims, cluster, commands, faults, replicas, upkeep
from tests.compose.click_writer import ClickWriter
from tests.compose.dashboard import dashboard_answers
from tests.compose.project import Project, compose_of_this_machine

SCALE = 3
MONITORED = ("--profile", "monitoring")
console = Console(emoji=False, markup=False)
Clicks = Annotated[Path | None, typer.Option(help="Click file to train on; default: a small shop.")]
Bundle = Annotated[Path | None, typer.Option(help="Bundle for the load at the end.")]


class ClaimsTable:
    """Table of claims: what was measured, and whether the claim held."""

    def __init__(self) -> None:
        self.table = Table("claim", "measured", "held", title="docker-compose.yml")
        self.all_held = True

    def claim(self, name: str, check: Callable[[], str]) -> None:
        began = time.perf_counter()
        try:
            measured, held = check(), True
        except Exception as broken:  # the next claims must still be tried and everything removed
            measured, held = f"{type(broken).__name__}: {broken}", False
        self.all_held = self.all_held and held
        self.table.add_row(name, measured, "yes" if held else "NO", end_section=True)
        console.print(f"{'yes' if held else 'NO ':3} {name}: {measured}", soft_wrap=True)
        console.print(f"    {time.perf_counter() - began:.0f} s", style="dim")


def main(
    clicks: Clicks = None,
    bundle: Bundle = None,
    rate: Annotated[float, typer.Option(help="Requests/s of that load.")] = 150.0,
    seconds: Annotated[float, typer.Option(help="Seconds of that load.")] = 10.0,
    compose: Annotated[str, typer.Option(help="`docker compose`, or `docker-compose`.")] = "",
    build: Annotated[bool, typer.Option(help="Build the images first.")] = True,
) -> None:
    """Start docker-compose.yml as a new project, break it, repair it, and print a table."""
    program = tuple(compose.split()) or compose_of_this_machine()
    project = Project(f"recsys-check-{os.getpid()}", program, free_port(), free_port())
    rows = ClaimsTable()
    rows.claim("the file is clean", lambda: claims.config_is_clean(project))
    if build:
        rows.claim("the images are built", lambda: built(project))
    try:
        check(rows, project, clicks, bundle, rate, seconds, build)
    finally:
        profiles = [word for name in claims.PROFILES for word in ("--profile", name)]
        project(*profiles, "down", "--volumes", "--remove-orphans")
    console.print(rows.table)
    raise typer.Exit(0 if rows.all_held else 1)


def built(project: Project) -> str:
    began = time.perf_counter()
    project("--profile", "train", "build")
    return f"{time.perf_counter() - began:.0f} s"


def check(
    rows: ClaimsTable,
    project: Project,
    clicks: Path | None,
    bundle: Path | None,
    rate: float,
    s: float,
    build: bool,
) -> None:
    """Check one container, three, faults, a new model, limits and secrets, in this order."""
    rows.claim("images: user, labels, sizes", lambda: claims.images_are_not_root(project))
    rows.claim("the API's image", lambda: claims.the_serving_image_cannot_train(project))
    rows.claim("commands of both images", lambda: commands.both_images_work(project))
    rows.claim("alert rules have tests", lambda: claims.alerts_pass_their_tests(project))
    rows.claim("up, from nothing", lambda: f"answers after {project.up():.0f} s")
    rows.claim("recommendations of the demo", lambda: faults.demo_answers(project))
    rows.claim("the collector", lambda: commands.the_collector_works(project))
    scaled = (*MONITORED, "up", "--detach", "--scale", f"api={SCALE}")
    rows.claim(f"{SCALE} containers", lambda: scaled_up(project, scaled))
    rows.claim("locked containers", lambda: claims.containers_are_locked(project))
    rows.claim("published ports", lambda: claims.only_the_gateway_is_published(project))
    rows.claim("48 writers on one user", lambda: replicas.concurrent_writers(project))
    rows.claim("Prometheus", lambda: replicas.prometheus_sees_all(project, SCALE))
    rows.claim("the dashboard", lambda: dashboard_answers(project.prometheus))
    rows.claim("a container killed", lambda: faults.killed_container(project, SCALE))
    writer, grown = ClickWriter(project.url), ("--scale", f"api={SCALE}")
    rows.claim("Redis restarted", lambda: faults.redis_restarted(project, writer))
    rows.claim("Redis killed", lambda: faults.redis_killed(project, writer))
    rows.claim("a new model", lambda: faults.new_model(project, clicks))
    rows.claim("prepared on a cluster", lambda: cluster.prepared_and_trained(project))
    rows.claim("down and up", lambda: faults.down_and_up(project, writer, *grown))
    rows.claim("one container again", lambda: f"{project.up('--scale', 'api=1'):.0f} s")
    rows.claim("roll out and back as documented", lambda: upkeep.rolled_out_and_back(project))
    rows.claim("an upgrade as documented", lambda: upkeep.replaced(project, build))
    rows.claim("a backup of Redis", lambda: upkeep.backed_up_and_restored(project, writer))
    rows.claim("containers replaced", lambda: upkeep.replaced_without_a_gap(project))
    if bundle is not None:
        rows.claim("another bundle", lambda: replicas.another_bundle(project, bundle))
    rows.claim("limits under load", lambda: replicas.limits_hold(project, rate, s))
    with tempfile.TemporaryDirectory() as folder:
        rows.claim("with keys and a password", lambda: with_secrets(project, Path(folder)))


def scaled_up(project: Project, command: tuple[str, ...]) -> str:
    project(*command)
    assert len(project.containers("api")) == SCALE
    return f"{len(project.containers('api'))} run"


def with_secrets(project: Project, folder: Path) -> str:
    """Start the same volumes with the secrets of .env.example."""
    key, file = new_key(), folder / "key"
    file.write_text(key)
    folder.chmod(0o755)
    secret = {
        "REDIS_PASSWORD": secrets.token_hex(24),
        "RECSYS_API_KEY_HASHES": hash_of(key),
        "METRICS_KEY_FILE": str(file),
    }
    closed = dataclasses.replace(project, environment=secret)
    seconds = closed.up()
    closed(*MONITORED, "up", "--detach")
    checked = replicas.keys_and_password(closed, key)
    seen = len(replicas.up(closed, 1))
    return f"up again in {seconds:.0f} s; {checked}; Prometheus sees {seen}"


if __name__ == "__main__":
    typer.run(main)
