"""What is broken and mended in a running project, and what must hold meanwhile and afterwards.

Each claim takes the project, says in a few words what was found, and raises `AssertionError` where
it does not hold. Every one leaves the project whole.
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
from tests.compose.load import CONNECTIONS, failures, load, under_load, visits
from tests.compose.project import Project, inspect, run
from tests.compose.writer import TENT, Told, Writer

RATE = 100.0  # requests/s beside whatever else is done
SETTLED_SECONDS = 2.0  # full answers for so long: it is mended
PATIENCE = 60.0


def killed_container(project: Project, scale: int) -> str:
    """Only requests that were sent to the container that died may fail."""
    victim = project.container("api")
    addresses = {each["IPAddress"] for each in _networks(victim)}
    gateway, since = project.container("gateway"), datetime.now(UTC).isoformat()
    clicks = visits(project)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, project, clicks, 2 * RATE, 10.0)
        time.sleep(4)
        run(["docker", "kill", victim])
        found = loading.result()
    failed = sum(found.errors.values())
    lines = run(["docker", "logs", "--since", since, gateway]).splitlines()
    others = [line for line in lines if line.rpartition(" ")[2].rpartition(":")[0] not in addresses]
    assert not others, f"failed elsewhere: {others[:3]}"
    assert failed == len(lines) <= CONNECTIONS, f"{found.errors}, but {len(lines)} at the gateway"
    project.up("--scale", f"api={scale}")
    return f"{failed} of {found.answers:,} failed, all sent to the one that died"


def redis_restarted(project: Project, writer: Writer) -> str:
    return _through(project, writer, lambda: project("restart", "redis"))


def redis_killed(project: Project, writer: Writer) -> str:
    def kill() -> None:
        project("kill", "redis")
        time.sleep(3)
        project("start", "redis")

    return _through(project, writer, kill)


def _through(project: Project, writer: Writer, harm: Callable[[], object]) -> str:
    """Nothing fails, answers are degraded, then full again, no acknowledged click is lost."""
    with writer.writing() as told:
        time.sleep(1)
        assert told.full, "no full answer before"
        harm()
        mended = time.monotonic()
        _until_full(told)
    assert not told.failed, f"{len(told.failed)} requests failed: {set(told.failed)}"
    assert told.degraded, "nothing was degraded: did it happen?"
    there = writer.check()
    again = max(told.last_degraded - mended, 0.0)
    return (
        f"{told.degraded} degraded, full {again:.1f} s after it was back, none failed, "
        f"slowest {told.slowest * 1e3:.0f} ms; {there}"
    )


def _until_full(told: Told) -> None:
    latest = time.monotonic() + PATIENCE
    begun = time.monotonic()
    while time.monotonic() - max(told.last_degraded, begun) < SETTLED_SECONDS:
        assert time.monotonic() < latest, "answers are still degraded"
        time.sleep(0.1)


def down_and_up(project: Project, writer: Writer, *up: str) -> str:
    before = model_of(project)
    project("--profile", "monitoring", "down", "--remove-orphans")
    seconds = project.up(*up)
    assert model_of(project) == before, "another model answers"
    return f"up again in {seconds:.0f} s with model {before}; {writer.check()}"


def new_model(project: Project, clicks: Path | None) -> str:
    """Trained in a container on a mounted file, taken up and given up again under load."""
    with tempfile.TemporaryDirectory() as folder:
        if clicks is None:
            write_shop(Path(folder), makers=2, sessions=4000)
            clicks = Path(folder) / "clicks.csv"
            Path(folder).chmod(0o755)
        old, began = model_of(project), _starts(project)
        name = project.container("api")
        pointer = run(["docker", "exec", name, "cat", "/bundles/current"]).strip()
        mounted = dataclasses.replace(
            project, environment={**project.environment, "CLICKS": str(clicks.parent)}
        )
        with under_load(project, RATE) as blocks:
            options = ("--set", "epochs=1", "--set", "refit=false")
            mounted("run", "--rm", "-T", "train", "--clicks", f"/clicks/{clicks.name}", *options)
            new = await_another(project, old)
            publish = ("--entrypoint", "recsys", "train", "publish", "/bundles", pointer)
            project("run", "--rm", "-T", "--no-deps", *publish)
            assert await_another(project, new) == old, "the roll-back took something else"
    assert not failures(blocks), f"failed: {failures(blocks)}"
    assert _starts(project) == began, "a container was started anew"
    answers = sum(block.answers for block in blocks)
    return f"{old} → {new} → {old}, {answers:,} answers meanwhile, none failed, no restart"


def await_another(project: Project, model_id: str) -> str:
    """Every container has left that model."""
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
    """A stranger gets the popular list; after a click the model answers, and the click is kept."""
    with httpx.Client(base_url=project.url, timeout=10) as client:
        stranger = client.get("/v1/users/ada/recommendations?k=5").raise_for_status().json()
        click = {"user_id": "ada", "item_id": TENT, "event_id": "e-1", "k": 3}
        answer = client.post("/v1/recommendations", json=click).raise_for_status().json()
    assert stranger["source"] == "popular", stranger
    assert answer["source"] == "model", answer
    assert answer["stored"], answer
    assert not answer["degraded"], answer
    return ", ".join(item["item_id"] for item in answer["items"])
