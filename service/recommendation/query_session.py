"""Sessions that queries are answered from: the clicks that count, and the state to start with.

The law of the hidden state:

    The state of a user equals the state of the current model and overlay after reading, from zero,
    the clicks in its window: the last clicks of the user's session (50 by default), in the order in
    which Redis accepted them.

The click history in Redis is the source of truth; the stored state is a cache. Its tag names the
model (with the vectors of new items in the window), the session and the number of clicks that the
state includes. `_from_stored` uses the state only if the tag fits:

    all clicks included                          use the state as it is
    clicks missing, and no click of the session  read the missing clicks, one step each
      has left the window
    everything else: another model, another      read the whole window again (replay)
      vector of a new item, a window that
      slides, a damaged or lost state

So a new model, concurrent writers and lost states never lead to a wrong state. A state is stored
only while its session is the one that it was computed from; session_store.py does this atomically.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import StoreUnavailable
from recsys.predictor import Predictor, SessionState
from service.recommendation.queries import RecommendationQuery
from service.store.session_store import StoredSession
from service.store.state_codec import decode


@dataclass(frozen=True, slots=True)
class QuerySession:
    """Session that one query is answered from."""

    model_input: SessionState
    window: Sequence[int]  # codes of the clicks in the window, without those on unknown items
    item_ids: Sequence[str]
    origin: str  # of the state: hit, step, replay, blank, stateless; a metric label
    stored: StoredSession | None = None
    degraded: bool = False


def session_of(
    query: RecommendationQuery,
    stored: StoredSession | StoreUnavailable | None,
    predictor: Predictor,
) -> QuerySession:
    """Return the session that a query is answered from.

    Args:
        query: the query.
        stored: reply of the store; None for a query without a user.
        predictor: the model.
    """
    if isinstance(stored, StoredSession):
        return _from_stored(query, stored, predictor)
    recent = slice(-predictor.window, None)
    window = predictor.known(query.own_items[recent], query.own_types[recent])
    return QuerySession(
        SessionState(window),
        window,
        item_ids=query.own_items,
        origin="stateless",
        degraded=isinstance(stored, StoreUnavailable),
    )


def _from_stored(
    query: RecommendationQuery, stored: StoredSession, predictor: Predictor
) -> QuerySession:
    """Return the session with the stored state and the clicks that it lacks, else for a replay.

    A click that Redis refused counts for this result as if it were stored.
    """
    refused = query.own_items if stored.refused else []
    item_ids = [*stored.item_ids, *refused]
    count = stored.count + len(refused)
    recent = item_ids[-predictor.window :]
    types = None
    if predictor.event_types.count > 1:
        types = [*stored.event_types, *(query.own_types if stored.refused else [])]
        types = types[-predictor.window :]

    def known(part: slice) -> list[int]:
        return predictor.known(recent[part], None if types is None else types[part])

    decoded = decode(stored.state, predictor.layers, predictor.state_width)
    if decoded is not None:
        tag, state = decoded
        behind = count - tag.clicks
        complete = count <= len(recent)  # no click of the session has left the window
        if tag.nonce == stored.nonce and (behind == 0 or (behind > 0 and complete)):
            first = len(recent) - behind
            read, missing = known(slice(first)), known(slice(first, None))
            if tag.state_id == predictor.state_id(read):
                origin = "step" if behind else "hit"
                model_input = SessionState(missing, state)
                return QuerySession(model_input, [*read, *missing], item_ids, origin, stored)
    window = known(slice(None))
    origin = "replay" if window else "blank"
    return QuerySession(SessionState(window), window, item_ids, origin, stored)
