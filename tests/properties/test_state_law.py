"""The law of the hidden state, which service/recommendation/query_session.py states."""

import asyncio
import dataclasses
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import httpx
import pytest
import redis as redis_py
import torch
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data.click_options import ClickOptions
from recsys.bundle.golden import open_predictor
from recsys.live.entry import ItemEntry
from recsys.live.overlay import Overlay
from recsys.predictor import Predictor, SessionState
from service.app import create_app
from service.middleware.auth import hash_of, new_key
from service.settings import Settings
from service.store.state_codec import decode
from service.store.user_keys import user_key
from tests.support.bundles.content_bundle import IDS, write_content_bundle
from tests.support.bundles.model_kinds import KINDS, ModelKinds
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.support.processes import start_fork
from tests.support.service.app_client import PATIENT, client_of
from tests.support.service.servers import several_served
from training.pipeline import TrainOptions, train

WRITERS = 48  # concurrent requests
KEY = new_key()
Steps = st.SearchStrategy[list[tuple[str, str]]]
ITEMS = ["aurora-tent", "aurora-kettle", "aurora-espresso-machine", "unknown", "aurora-desk"]


def replayed(predictor: Predictor, clicks: Sequence[str]) -> torch.Tensor:
    """Return the state after a replay, of shape (L, width)."""
    window = clicks[-predictor.window :]
    known = [item for i in window if (item := predictor.catalogue.find(i)) is not None]
    return predictor.advance([SessionState(known)])[:, 0]


def cached(
    url: str, predictor: Predictor, user: str, clicks: int | None = None
) -> torch.Tensor | None:
    """Return the stored state, if there is one and it includes that many clicks."""
    with redis_py.Redis.from_url(url) as client:
        secret = client.get("recsys:secret")
        assert isinstance(secret, bytes)
        blob = client.lindex(user_key(user, secret), 1)
    assert blob is None or isinstance(blob, bytes)
    found = decode(blob, predictor.layers, predictor.state_width)
    if found is None or (clicks is not None and found[0].clicks != clicks):
        return None
    return found[1]


def drop_caches(url: str) -> None:
    """Delete all stored states."""
    with redis_py.Redis.from_url(url) as client:
        for key in client.scan_iter("recsys:{s*"):
            client.lset(key, 1, "")


async def write_concurrently(urls: Sequence[str], clicks: Sequence[dict[str, str]]) -> None:
    """Send every click twice with one event id, to servers in turn, all concurrently."""
    gate = asyncio.Semaphore(WRITERS)

    async def send(client: httpx.AsyncClient, url: str, click: dict[str, str]) -> httpx.Response:
        async with gate:
            return await client.post(f"{url}/v1/recommendations", json=click)

    async with httpx.AsyncClient(timeout=60) as client:
        sent = [
            send(client, urls[(n + again) % len(urls)], click)
            for n, click in enumerate(clicks)
            for again in range(2)
        ]
        answers = await asyncio.gather(*sent)
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert all(answer.json()["stored"] for answer in answers)


async def check_writers(
    predictor: Predictor, urls: Sequence[str], redis_url: str, user: str, writes: int
) -> None:
    """Check that each click is stored once and that the stored state equals a replay."""
    known = predictor.catalogue.item_ids
    clicks = [
        {"user_id": user, "item_id": known[n % len(known)], "event_id": f"e{n}"}
        for n in range(writes)
    ]
    await write_concurrently(urls, clicks)
    async with httpx.AsyncClient(timeout=60) as client:
        stored = (await client.get(f"{urls[0]}/v1/users/{user}")).json()["clicks"]
        answer = (await client.get(f"{urls[1]}/v1/users/{user}/recommendations?k=20")).json()
        state = None
        for _ in range(1000):
            state = cached(redis_url, predictor, user, writes)
            if state is not None:
                break
            await asyncio.sleep(0.02)
        window = [click["item_id"] for click in stored]
        stateless = await client.post(
            f"{urls[0]}/v1/recommendations", json={"items": window, "k": 20}
        )

    events = [click["event_id"] for click in stored]
    assert len(events) == len(set(events)) == min(writes, 50)
    if writes <= 50:
        assert set(events) == {click["event_id"] for click in clicks}
    assert state is not None
    difference = (state - replayed(predictor, window)).abs().max().item()
    assert difference < 1e-5
    assert [i["item_id"] for i in answer["items"]] == [
        i["item_id"] for i in stateless.json()["items"]
    ]


async def test_48_writers_through_two_servers(blended: TrainedShop, redis_url: str) -> None:
    """First as many clicks as writers, then more than the window holds."""
    predictor = open_predictor(blended.bundle)
    with several_served(2, blended.bundle, redis_url, start_fork) as urls:
        await check_writers(predictor, urls, redis_url, "ada", WRITERS)
        await check_writers(predictor, urls, redis_url, "ben", 500)


def steps_on(items: Sequence[str], *more: st.SearchStrategy[tuple[str, str]]) -> Steps:
    """Return lists of steps that click these items."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("click"), st.sampled_from(items)),
            st.tuples(st.just("repeat"), st.just("")),
            st.tuples(st.just("read"), st.just("")),
            st.tuples(st.just("many"), st.integers(1, 60).map(str)),
            st.tuples(st.just("lose cache"), st.just("")),
            st.tuples(st.just("delete"), st.just("")),
            *more,
        ),
        max_size=12,
    )


@pytest.mark.hypothesis
def test_any_interleaving_answers_as_a_fresh_replay_would(
    any_shop: TrainedShop, redis_url: str
) -> None:
    """All examples use one service, and each its own user."""
    check_interleavings(any_shop.bundle, redis_url, ITEMS, steps_on(ITEMS))


@pytest.mark.hypothesis
def test_any_interleaving_with_changes_of_items_answers_as_a_fresh_replay_would(
    tmp_path: Path, redis_url: str
) -> None:
    """New items appear, get other vectors, are clicked, sold out and deleted."""
    bundle, items = write_content_bundle(tmp_path / "bundle"), [*IDS[:3], "new-1", "new-2"]
    change = st.tuples(st.sampled_from(items), st.sampled_from(["Ada", "Bob", "sold out", "gone"]))
    put = st.tuples(st.just("put"), change.map(" ".join))
    check_interleavings(bundle, redis_url, items, steps_on(items, put, put))


def check_interleavings(bundle: Path, redis_url: str, items: Sequence[str], steps: Steps) -> None:
    settings = {"bundle": bundle, "redis": redis_url, "catalogue_key_hashes": [hash_of(KEY)]}
    app = create_app(Settings(**settings, **PATIENT))  # type: ignore[arg-type]
    shop, users = LiveShop(open_predictor(bundle), items), count()
    with asyncio.Runner() as runner:
        opened = client_of(app)
        client = runner.run(opened.__aenter__())

        @given(steps)
        def interleaved(steps: list[tuple[str, str]]) -> None:
            user = f"ada-{next(users)}"
            runner.run(interleave(client, app, shop, redis_url, user, steps))

        interleaved()
        runner.run(opened.__aexit__(None, None, None))


class LiveShop:
    """Shop whose items change: what the service must answer from."""

    def __init__(self, predictor: Predictor, items: Sequence[str]) -> None:
        self.overlay, self.items = Overlay(predictor), items
        self._entries: dict[str, ItemEntry] = {}

    async def put(self, client: httpx.AsyncClient, app: FastAPI, item_id: str, what: str) -> None:
        """Change an item here and in the service, and wait until the service has read it."""
        old, headers = self._entries.get(item_id, ItemEntry()), {"Authorization": f"Bearer {KEY}"}
        change: dict[str, object] = {"item_id": item_id, "available": what != "sold out"}
        if what == "gone":
            self._entries[item_id] = ItemEntry(available=False)
            body: dict[str, object] = {"item_ids": [item_id]}
            await client.post("/v1/items:delete", json=body, headers=headers)
        else:
            brand = {} if what == "sold out" else {"brand": what}
            self._entries[item_id] = ItemEntry(what != "sold out", {**old.attributes, **brand})
            body = {"items": [{**change, "attributes": brand}]}
            answer = await client.put("/v1/items", json=body, headers=headers)
            assert answer.json()["errors"] == []
        self.overlay.apply({item_id: self._entries[item_id]})
        live = app.state.running.live
        version, _ = await live.store.put([])
        await live.reached(version)


async def interleave(
    client: httpx.AsyncClient,
    app: FastAPI,
    shop: LiveShop,
    redis_url: str,
    user: str,
    steps: Sequence[tuple[str, str]],
) -> None:
    history: list[str] = []
    last: dict[str, str] | None = None
    for number, (what, detail) in enumerate(steps):
        body: dict[str, object] = {"user_id": user}
        if what == "click":
            last = {"item_id": detail, "event_id": f"e{number}"}
            history.append(detail)
            body |= last
        elif what == "repeat" and last is not None:
            body |= last
        elif what == "many":
            clicks = [shop.items[n % len(shop.items)] for n in range(int(detail))]
            history += clicks
            sent = {"clicks": [{"item_id": item_id} for item_id in clicks]}
            await client.post(f"/v1/users/{user}/clicks", json=sent)
        elif what == "lose cache":
            drop_caches(redis_url)
        elif what == "delete":
            history = []
            await client.delete(f"/v1/users/{user}")
        elif what == "put":
            await shop.put(client, app, *detail.split(" ", 1))
        predictor = shop.overlay.predictor()
        answer = (await client.post("/v1/recommendations", json=body)).json()
        expected = predictor.recommend(predictor.catalogue.known(history[-predictor.window :]))
        assert answer["source"] == expected.source
        same_list(answer["items"], predictor, expected.items, expected.scores)


def same_list(
    items: Sequence[dict[str, object]],
    predictor: Predictor,
    expected: Sequence[int],
    scores: Sequence[float],
) -> None:
    """Check that the lists are equal where neighbouring scores differ by more than 1e-5."""
    for place, (have, want) in enumerate(zip(items, expected, strict=True)):
        near = [scores[n] for n in (place - 1, place + 1) if 0 <= n < len(scores)]
        if place + 1 < len(scores) and min(abs(scores[place] - s) for s in near) > 1e-5:
            assert have["item_id"] == predictor.catalogue.item_ids[want]


async def test_losing_the_cache_or_changing_the_bundle_changes_nothing_a_replay_would_not(
    any_shop: TrainedShop, other_bundle: Path, redis_url: str
) -> None:
    """States of another model are never read, after a roll-out or a roll-back."""

    async def list_of(bundle: Path) -> list[str]:
        app = create_app(Settings(bundle=bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
        async with client_of(app) as client:
            answer = (await client.get("/v1/users/ada/recommendations")).json()
            return [item["item_id"] for item in answer["items"]]

    app = create_app(Settings(bundle=any_shop.bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        for item_id in ("aurora-tent", "aurora-sleeping-bag"):
            await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": item_id})

    first = await list_of(any_shop.bundle)
    drop_caches(redis_url)
    assert await list_of(any_shop.bundle) == first

    other = open_predictor(other_bundle)
    clicked = [other.catalogue.index(i) for i in ("aurora-tent", "aurora-sleeping-bag")]
    rolled_out = await list_of(other_bundle)
    assert rolled_out == [other.catalogue.item_ids[i] for i in other.recommend(clicked).items]
    assert rolled_out != first
    assert await list_of(any_shop.bundle) == first


@pytest.mark.parametrize("kind", [*KINDS, "blended"])
async def test_a_window_that_slides_forgets_what_left_it(
    model_kinds: ModelKinds, trained: TrainedShop, redis_url: str, tmp_path: Path, kind: str
) -> None:
    """With a window of 3, one click too many changes the state far more than rounding."""
    bundle = blended_in(tmp_path, trained) if kind == "blended" else model_kinds.bundle(kind)
    predictor = open_predictor(bundle)
    ids = predictor.catalogue.item_ids
    app = create_app(Settings(bundle=bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        for number in range(1, 7):
            clicked = [ids[17 * n % len(ids)] for n in range(number)]
            body = {"user_id": "ada", "item_id": clicked[-1]}
            answer = (await client.post("/v1/recommendations", json=body)).json()
            state = None
            while state is None:
                state = cached(redis_url, predictor, "ada", number)
                await asyncio.sleep(0.005)

            torch.testing.assert_close(state, replayed(predictor, clicked), atol=1e-5, rtol=0)
            stateless = await client.post("/v1/recommendations", json={"items": clicked})
            have, want = ([i["score"] for i in a["items"]] for a in (answer, stateless.json()))
            torch.testing.assert_close(torch.tensor(have), torch.tensor(want), atol=1e-4, rtol=0)


def blended_in(folder: Path, shop: TrainedShop) -> Path:
    """Train a bundle with session neighbours and a window of 3."""
    recipe = dataclasses.replace(SMALL, window=3, epochs=1, refit=False, blend="v-sknn")
    options = TrainOptions(
        ClickOptions(shop.clicks), folder / "bundle", dataclasses.replace(recipe, blend_weight=0.5)
    )
    return train(options, Console(quiet=True))
