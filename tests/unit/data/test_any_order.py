"""Whatever happens to a user in whatever order, the service answers as plain Python would.

Some plays here, 10,000 by `make soak`.
"""

import pytest

from service.store.click import Click
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.redis.plain_sessions import PlainRules, PlainSession
from tests.support.redis.session_machine import check_random_steps, service_under_test


def test_any_order_of_clicks_reads_deletions_pauses_and_reloads(
    model_kinds: ModelKinds, redis_url: str
) -> None:
    """One of the two models reads the types of clicks, the other does not know any."""
    bundles = [
        model_kinds.typed_bundle("gru shared", window=9),
        model_kinds.bundle("lstm separate", window=4),
    ]
    with service_under_test(bundles, redis_url) as service:
        assert check_random_steps(service, examples=30, steps=25) >= 30


RULES = PlainRules(idle_seconds=10, tombstone_seconds=20, event_ids_kept=2, history_length=9)


@pytest.mark.parametrize(
    ("kept", "repeated", "accepted"), [("ab", "a", False), ("abc", "a", True), ("abc", "b", False)]
)
def test_the_model_knows_the_last_events_alone(kept: str, repeated: str, accepted: bool) -> None:
    session = PlainSession()
    RULES.click(session, [Click("x", event) for event in kept])

    taken = RULES.click(session, [Click("x", repeated)])

    assert taken.accepted == accepted
