"""Checks of several API containers on one Redis, and of one container within its limits.

Each check takes the project, returns what it measured in a few words, and raises `AssertionError`
if the claim does not hold.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx

from tests.compose.click_writer import BAG, TENT
from tests.compose.load import load, visits
from tests.compose.project import Project, inside, inspect, run

WRITERS = 48
SCRAPE_SECONDS = 45.0
TOLERANCE = 1e-4  # between scores of one list, computed in two ways


def concurrent_writers(project: Project) -> str:
    """Write 48 clicks of one user at once, each twice: each is stored once, lists fit them."""
    stored, lists, again = asyncio.run(_write(project.url, f"crowd-{time.time_ns()}"))
    events = [click["event_id"] for click in stored]
    assert sorted(events) == sorted(f"e{n}" for n in range(WRITERS)), f"{len(events)} clicks"
    for each in lists:
        _assert_same(each, again)
    return f"{WRITERS} clicks sent twice are there once; {len(lists)} lists equal a replay"


async def _write(url: str, user: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the stored clicks, lists from the stored state, and the list of a replay."""
    limits = httpx.Limits(max_connections=WRITERS)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:

        async def click(n: int) -> httpx.Response:
            sent = {"user_id": user, "item_id": (TENT, BAG)[n % 2], "event_id": f"e{n}"}
            return await client.post("/v1/recommendations", json=sent)

        sent = [click(n) for n in range(WRITERS) for _ in range(2)]
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["stored"] for answer in answers)
        stored = (await client.get(f"/v1/users/{user}")).json()["clicks"]
        window = {"items": [click["item_id"] for click in stored], "k": 20}
        again = (await client.post("/v1/recommendations", json=window)).json()["items"]
        read = {"user_id": user, "k": 20}  # from each container in turn
        lists = [(await client.post("/v1/recommendations", json=read)).json() for _ in range(12)]
    assert not any(each["degraded"] for each in lists)
    return stored, [each["items"] for each in lists], again


def _assert_same(one: list[Any], other: list[Any]) -> None:
    """Compare the scores at every place; items with equal scores may swap."""
    scores = [[item["score"] for item in each] for each in (one, other)]
    assert len(scores[0]) == len(scores[1])
    apart = max(abs(a - b) for a, b in zip(*scores, strict=True))
    assert apart < TOLERANCE, f"scores are {apart} apart"


def prometheus_sees_all(project: Project, scale: int) -> str:
    """Check that Prometheus scrapes each container by itself and has loaded the rules."""
    seen = up(project, scale)
    for _ in range(4 * scale):
        httpx.get(f"{project.url}/v1/model", timeout=10).raise_for_status()
    latest = time.monotonic() + SCRAPE_SECONDS
    while not seen <= (counted := _with_requests(project)):
        assert time.monotonic() < latest, f"without requests: {seen - counted}"
        time.sleep(1)
    groups = _ask(project, "rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules, "no rules are loaded"
    assert all(rule["health"] in ("ok", "unknown") for rule in rules), rules
    return f"{len(seen)} of {scale} containers, {len(rules)} rules"


def up(project: Project, scale: int) -> set[str]:
    """Wait until so many containers answer Prometheus; return them."""
    latest = time.monotonic() + SCRAPE_SECONDS
    while len(targets := _targets(project)) != scale:
        assert time.monotonic() < latest, f"{len(targets)} of {scale} targets are up"
        time.sleep(1)
    return targets


def _targets(project: Project) -> set[str]:
    """Return the current targets; a query would also return containers of minutes ago."""
    targets = _ask(project, "targets?state=active").get("activeTargets", [])
    return {each["labels"]["instance"] for each in targets if each["health"] == "up"}


def _with_requests(project: Project) -> set[str]:
    query = "query?query=sum by (instance) (recsys_requests_total) > 0"
    return {each["metric"]["instance"] for each in _ask(project, query).get("result", [])}


def _ask(project: Project, path: str) -> dict[str, Any]:
    try:
        answer = httpx.get(f"{project.prometheus}/api/v1/{path}", timeout=5)
    except httpx.TransportError:  # Prometheus is still starting
        return {}
    data: dict[str, Any] = answer.json()["data"]
    return data


def limits_hold(project: Project, rate: float, seconds: float) -> str:
    """Check that one container, limited in processor time and memory, handles this rate."""
    (container,) = project.containers("api")
    host = inspect(container)["HostConfig"]
    assert host["NanoCpus"], "no limit of processors"
    clicks = visits(project)
    load(project, clicks, rate, 2.0)
    measured = load(project, clicks, rate, seconds)
    state = inspect(container)
    assert not measured.errors, f"failed: {measured.errors}"
    assert measured.rate > 0.98 * rate, f"{measured.rate:.0f} requests/s of {rate:.0f}"
    assert not state["State"]["OOMKilled"], "it ran out of memory"
    assert not state["RestartCount"], "it was restarted"
    used = run(["docker", "stats", "--no-stream", "--format={{.MemUsage}}", container]).strip()
    return (
        f"{measured.rate:,.0f} requests/s: p50 {measured.p50:.1f}, p90 {measured.p90:.1f}, "
        f"p99 {measured.p99:.1f} ms, none failed; {host['NanoCpus'] / 1e9:g} cpus, {used}"
    )


def another_bundle(project: Project, bundle: Path) -> str:
    """Add a bundle to the registry and make it the current version."""
    name = f"given-{time.time_ns()}"
    script = f"cp -r /from /bundles/{name} && exec recsys publish /bundles {name}"
    mount = ("--volume", f"{bundle.resolve()}:/from:ro")
    command = ("--entrypoint", "sh", "train", "-c", script)
    project("run", "--rm", "-T", "--no-deps", *mount, *command)
    wanted = inside(project.container("api"), "cat", f"/bundles/{name}/manifest.json")
    latest = time.monotonic() + SCRAPE_SECONDS
    while (model := httpx.get(f"{project.url}/v1/model").json()["model_id"]) not in wanted:
        assert time.monotonic() < latest, f"model {model} still answers"
        time.sleep(0.2)
    return f"model {model}"


def keys_and_password(project: Project, key: str) -> str:
    """Check that the API needs its key and Redis its password."""
    url = f"{project.url}/v1/model"
    assert httpx.get(url).status_code == 401, "a call without a key is answered"
    sent = {"Authorization": f"Bearer {key}"}
    assert httpx.get(url, headers=sent).status_code == 200, "the key is refused"
    refused = project("exec", "-T", "-e", "REDISCLI_AUTH=", "redis", "redis-cli", "dbsize")
    assert "NOAUTH" in refused, f"Redis answers without its password: {refused}"
    assert project.redis("dbsize").isdigit(), "Redis refuses its own password"
    click = {"user_id": "ada", "item_id": TENT}
    answer = httpx.post(f"{project.url}/v1/recommendations", json=click, headers=sent).json()
    assert answer["stored"], answer
    return "401 and NOAUTH without, answers with"
