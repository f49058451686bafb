"""Faults of a running project: what must hold while something is broken, and afterwards.

Each check takes the project, returns what it measured in a few words, and raises `AssertionError`
if the claim does not hold. Each repairs what it broke.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx

from data.synthetic import write_shop
from tests.compose.click_writer import TENT, ClickWriter, WriteCounts
from tests.compose.load import CONNECTIONS, failures, load, under_load, visits
from tests.compose.project import Project, inspect, run

RATE = 100.0  # requests/s during a fault
SETTLED_SECONDS = 2.0  # of full answers count as recovered
PATIENCE = 60.0


def killed_container(project: Project, scale: int) -> str:
    """Kill a container: only requests that were sent to it may fail."""
    victim = project.container("api")
    addresses = {each["IPAddress"] for each in _networks(victim)}
    gateway, since = project.container("gateway"), datetime.now(UTC).isoformat()
    clicks = visits(project)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, project, clicks, 2 * RATE, 10.0)
        time.sleep(4)
        run(["docker", "kill", victim])
        load_result = loading.result()
    failed = sum(load_result.errors.values())
    lines = run(["docker", "logs", "--since", since, gateway]).splitlines()
    others = [line for line in lines if line.rpartition(" ")[2].rpartition(":")[0] not in addresses]
    assert not others, f"failed elsewhere: {others[:3]}"
    assert failed == len(lines) <= CONNECTIONS, (
        f"{load_result.errors}, but {len(lines)} at the gateway"
    )
    project.up("--scale", f"api={scale}")
    return f"{failed} of {load_result.answers:,} failed, all sent to the killed container"


def redis_restarted(project: Project, writer: ClickWriter) -> str:
    return _check_through(project, writer, lambda: project("restart", "redis"))


def redis_killed(project: Project, writer: ClickWriter) -> str:
    def kill() -> None:
        project("kill", "redis")
        time.sleep(3)
        project("start", "redis")

    return _check_through(project, writer, kill)


def _check_through(project: Project, writer: ClickWriter, harm: Callable[[], object]) -> str:
    """Cause a fault: no answer fails, some are degraded, then all are full; no click is lost."""
    with writer.writing() as counts:
        time.sleep(1)
        assert counts.full, "no full answer before"
        harm()
        repaired = time.monotonic()
        _wait_for_full(counts)
    assert not counts.failed, f"{len(counts.failed)} requests failed: {set(counts.failed)}"
    assert counts.degraded, "no answer was degraded: did the fault happen?"
    stored = writer.check()
    again = max(counts.last_degraded - repaired, 0.0)
    return (
        f"{counts.degraded} degraded, full {again:.1f} s after the repair, none failed, "
        f"slowest {counts.slowest * 1e3:.0f} ms; {stored}"
    )


def _wait_for_full(counts: WriteCounts) -> None:
    latest = time.monotonic() + PATIENCE
    begun = time.monotonic()
    while time.monotonic() - max(counts.last_degraded, begun) < SETTLED_SECONDS:
        assert time.monotonic() < latest, "answers are still degraded"
        time.sleep(0.1)


def down_and_up(project: Project, writer: ClickWriter, *up: str) -> str:
    before = model_of(project)
    project("--profile", "monitoring", "down", "--remove-orphans")
    seconds = project.up(*up)
    assert model_of(project) == before, "another model answers"
    return f"up again in {seconds:.0f} s with model {before}; {writer.check()}"


def new_model(project: Project, clicks: Path | None) -> str:
    """Train a model in a container, serve it and roll it back, all under load."""
    with tempfile.TemporaryDirectory() as folder:
        if clicks is None:
            write_shop(Path(folder), makers=2, sessions=4000)
            clicks = Path(folder) / "clicks.csv"
            Path(folder).chmod(0o755)
        old, began = model_of(project), _starts(project)
        name = project.container("api")
        current = run(["docker", "exec", name, "cat", "/bundles/current"]).strip()
        mounted = dataclasses.replace(
            project, environment={**project.environment, "CLICKS": str(clicks.parent)}
        )
        with under_load(project, RATE) as blocks:
            options = ("--set", "epochs=1", "--set", "refit=false")
            mounted("run", "--rm", "-T", "train", "--clicks", f"/clicks/{clicks.name}", *options)
            new = await_another(project, old)
            publish = ("--entrypoint", "recsys", "train", "publish", "/bundles", current)
            project("run", "--rm", "-T", "--no-deps", *publish)
            assert await_another(project, new) == old, "the roll-back took something else"
    assert not failures(blocks), f"failed: {failures(blocks)}"
    assert _starts(project) == began, "a container was restarted"
    answers = sum(block.answers for block in blocks)
    return f"{old} → {new} → {old}, {answers:,} answers meanwhile, none failed, no restart"


def await_another(project: Project, model_id: str) -> str:
    """Wait until all containers answer with another model; return its id."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        seen = {model_of(project) for _ in range(12)}
        if len(seen) == 1 and model_id not in seen:
            return seen.pop()
        time.sleep(0.2)
    raise AssertionError(f"model {model_id} is still served after {PATIENCE:.0f} s")


def model_of(project: Project) -> str:
    answer = httpx.get(f"{project.url}/v1/model", timeout=10).raise_for_status().json()
    return str(answer["model_id"])


def _starts(project: Project) -> dict[str, str]:
    return {each: inspect(each)["State"]["StartedAt"] for each in project.containers("api")}


def _networks(container: str) -> list[dict[str, str]]:
    return list(inspect(container)["NetworkSettings"]["Networks"].values())


def demo_answers(project: Project) -> str:
    """Check that a new user gets the popular list, and a model list after a click."""
    with httpx.Client(base_url=project.url, timeout=10) as client:
        popular = client.get("/v1/users/ada/recommendations?k=5").raise_for_status().json()
        click = {"user_id": "ada", "item_id": TENT, "event_id": "e-1", "k": 3}
        answer = client.post("/v1/recommendations", json=click).raise_for_status().json()
    assert popular["source"] == "popular", popular
    assert answer["source"] == "model", answer
    assert answer["stored"], answer
    assert not answer["degraded"], answer
    return ", ".join(item["item_id"] for item in answer["items"])
