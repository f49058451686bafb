"""Random sequences of calls, deletions, pauses and reloads, compared with `plain_sessions.py`.

Hypothesis draws the steps. If an answer differs, it looks for the shortest sequence that shows the
difference. The service runs in this process on a real Redis. A reload switches between two bundles
of different cell, size and window; both stay open, so that a reload takes no time. Time passes by
shortening the lifetime of the keys in Redis.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from service.app import create_app
from service.model_manager import OpenedBundle
from service.settings import Settings
from service.store.click import Click
from service.store.user_keys import user_key
from tests.support.redis.plain_sessions import ClickCounts, PlainRules, PlainSession
from tests.support.service.app_client import PATIENT, client_of

SECRET = "a-secret-of-these-tests"
RULES = PlainRules(idle_seconds=1800, tombstone_seconds=3000, event_ids_kept=5, history_length=12)
ORDER_TOLERANCE = 1e-5
USERS = ("ada", "ben")
PAUSES = (600, 1200, 1800, 3000)
SLACK_MS = 300_000  # half of the shortest pause: the longest real time of an example


@dataclass
class ServiceUnderTest:
    """Running service, its two bundles, and the event loop on which it is called."""

    loop: asyncio.AbstractEventLoop
    app: FastAPI
    client: httpx.AsyncClient
    redis: redis_py.Redis
    bundles: Sequence[Path]
    items: Sequence[str]
    examples: int = 0

    @property
    def predictor(self) -> Predictor:
        """Return the predictor that is served now."""
        predictor: Predictor = self.app.state.running.recommender.predictor
        return predictor

    def request(self, method: str, path: str, **body: Any) -> httpx.Response:
        """Send a request and return the response."""
        sending = self.client.request(method, f"/v1/{path}", json=body or None)
        return self.loop.run_until_complete(sending)

    def reload(self) -> None:
        """Serve the other bundle."""
        models = self.app.state.running.models
        (other,) = set(self.bundles) - {models.current.folder}
        self.loop.run_until_complete(models.replace(other))


@contextmanager
def service_under_test(bundles: Sequence[Path], redis_url: str) -> Iterator[ServiceUnderTest]:
    """Run a service; bundles: two, with the same items."""
    opened = {bundle: OpenedBundle.open(bundle) for bundle in bundles}
    values: dict[str, Any] = {
        **{"bundle": bundles[0], "redis": redis_url, "user_id_secret": SECRET, **PATIENT},
        **{"idle_seconds": RULES.idle_seconds, "tombstone_seconds": RULES.tombstone_seconds},
        "event_ids_kept": RULES.event_ids_kept,
        "history_length": RULES.history_length,
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner() as runner,
        redis_py.Redis.from_url(redis_url) as redis,
    ):
        patch.setattr(OpenedBundle, "open", opened.__getitem__)
        app = create_app(Settings(**values))
        stack = AsyncExitStack()
        client = runner.run(stack.enter_async_context(client_of(app)))
        items = opened[bundles[0]].predictor.catalogue.item_ids[:4]
        yield ServiceUnderTest(runner.get_loop(), app, client, redis, bundles, [*items, "unknown"])
        runner.run(stack.aclose())


users, events = st.sampled_from(USERS), st.integers(0, 7)
item_numbers = st.integers(0, 4)
event_types = st.sampled_from([None, "view", "cart", "order", "another type"])
several = st.lists(st.tuples(item_numbers, st.none() | events, event_types), min_size=1, max_size=7)


class SessionMachine(RuleBasedStateMachine):
    """One example: new users, and the reference model of their sessions."""

    service: ServiceUnderTest

    def __init__(self) -> None:
        super().__init__()
        self.service.examples += 1
        self._sessions = {user: PlainSession() for user in USERS}

    @rule(user=users, item=item_numbers, event=st.none() | events, event_type=event_types)
    def click(self, user: str, item: int, event: int | None, event_type: str | None) -> None:
        """Send a click; it is a repeat if the event id is known."""
        click = self._click(item, event, event_type)
        counts = self._expect(user, [click])
        body = {"user_id": self._id(user), **_fields(click)}
        answer = self.service.request("POST", "recommendations", **body).json()
        assert answer["stored"] == (counts.accepted + counts.duplicates > counts.forgotten)
        unknown = self.service.predictor.event_types.unknown([event_type])
        assert answer.get("unknown_event_types", []) == unknown
        self._check_list(user, answer)

    @rule(user=users, clicks_drawn=several)
    def several_clicks(
        self, user: str, clicks_drawn: list[tuple[int, int | None, str | None]]
    ) -> None:
        clicks = [self._click(*drawn) for drawn in clicks_drawn]
        sent = [_fields(click) for click in clicks]
        counts = self._expect(user, clicks)
        answer = self.service.request("POST", f"users/{self._id(user)}/clicks", clicks=sent).json()
        assert (answer["accepted"], answer["duplicates"]) == (counts.accepted, counts.duplicates)

    @rule(user=users, item=item_numbers, event=events)
    def click_without_consent(self, user: str, item: int, event: int) -> None:
        click = self._click(item, event)
        body = {"user_id": self._id(user), "item_id": click.item_id, "event_id": click.event_id}
        answer = self.service.request("POST", "recommendations", **body, consent=False).json()
        assert not answer["stored"]

    @rule(user=users)
    def read_the_list(self, user: str) -> None:
        answer = self.service.request("GET", f"users/{self._id(user)}/recommendations")
        self._check_list(user, answer.json())

    @rule(user=users)
    def read_what_is_stored(self, user: str) -> None:
        session = self._sessions[user]
        answer = self.service.request("GET", f"users/{self._id(user)}").json()
        stored = [
            Click(c["item_id"], c["event_id"], event_type=c["event_type"]) for c in answer["clicks"]
        ]
        assert stored == session.clicks
        left = answer["expires_in_seconds"]
        assert (left is None) == (not session.clicks)
        assert left is None or abs(left - session.clicks_left) < 30

    @rule(user=users)
    def delete(self, user: str) -> None:
        RULES.forget(self._sessions[user])
        assert self.service.request("DELETE", f"users/{self._id(user)}").status_code == 204

    @rule(user=users, seconds=st.sampled_from(PAUSES))
    def wait(self, user: str, seconds: int) -> None:
        """Let time pass, and delete the key if it would have expired."""
        RULES.wait(self._sessions[user], seconds)
        key = self._key(user)
        left = self.service.redis.pttl(key) - 1000 * seconds
        if left < SLACK_MS:
            self.service.redis.delete(key)
        else:
            self.service.redis.pexpire(key, left)

    @rule(user=users)
    def lose_the_cache(self, user: str) -> None:
        if self.service.redis.exists(self._key(user)):
            self.service.redis.lset(self._key(user), 1, "")

    @rule()
    def reload(self) -> None:
        self.service.reload()

    def _id(self, user: str) -> str:
        return f"{user}-{self.service.examples}"

    def _key(self, user: str) -> str:
        return user_key(self._id(user), SECRET.encode())

    def _click(self, item: int, event: int | None, event_type: str | None = None) -> Click:
        event_id = None if event is None else f"e{event}"
        return Click(self.service.items[item], event_id, event_type=event_type)

    def _expect(self, user: str, clicks: Sequence[Click]) -> ClickCounts:
        return RULES.click(self._sessions[user], clicks)

    def _check_list(self, user: str, answer: dict[str, Any]) -> None:
        """Check that the list is the one that a replay of the last clicks gives."""
        predictor = self.service.predictor
        window = self._sessions[user].clicks[-predictor.window :]
        known = predictor.known([c.item_id for c in window], [c.event_type for c in window])
        expected = predictor.recommend(known, RankingQuery())
        assert answer["model_id"] == predictor.model_id
        assert (answer["source"], answer["degraded"]) == (expected.source, False)
        scores = [item["score"] for item in answer["items"]]
        assert scores == pytest.approx(expected.scores, abs=ORDER_TOLERANCE)
        names = predictor.catalogue.item_ids
        for place, item in enumerate(answer["items"][:-1]):
            near = expected.scores[max(place - 1, 0) : place + 2]
            if min(abs(a - b) for a, b in pairwise(near)) > 2 * ORDER_TOLERANCE:
                assert item["item_id"] == names[expected.items[place]]


def _fields(click: Click) -> dict[str, str]:
    """Return the click as the body of a request has it."""
    fields = {"item_id": click.item_id, "event_id": click.event_id, "event_type": click.event_type}
    return {name: text for name, text in fields.items() if text is not None}


def check_random_steps(service: ServiceUnderTest, examples: int, steps: int) -> int:
    """Check examples of at most `steps` steps each; return how many were run.

    Raises:
        AssertionError: with the shortest example whose answer is wrong.
    """
    machine = type("BoundMachine", (SessionMachine,), {"service": service})
    given = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=given)
    return service.examples
