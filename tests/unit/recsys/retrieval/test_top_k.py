"""Every retrieval returns the best allowed items in their exact order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import CategoricalAttribute
from recsys.model.gru4rec import ModelSize, SessionRNN, unit
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import NORMALIZING, VOTES, Blend, BlendSettings
from recsys.neighbours.scoring import VSTAN
from recsys.ragged import rows_of
from recsys.retrieval import candidate_scorer
from recsys.retrieval.candidates import KINDS, CandidateIndex
from recsys.retrieval.exact import ExactScan, RankingQuery, Retrieval, TopK
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import MAX_K
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rerank import Reranked, query_vectors
from recsys.retrieval.rules import Boost, Limit, RankingRules
from tests.support.bundles.small_indexes import (
    COMMON,
    HIDDEN,
    ITEMS,
    circular_lists,
    hidden_states,
    item_vectors,
)
from training.baselines.session_knn import build_neighbour_index

TIE = 1e-5  # scores closer than this may change places


def complete_index(kind: str, matrix: Tensor, bias: Tensor) -> CandidateIndex:
    """Return an index that overlooks nothing: lists hold every item."""
    if kind == "lists":
        return circular_lists(matrix, bias, ITEMS - COMMON)
    return Int8Index.of(matrix, bias, 3.0)


def clicks(rows: int) -> list[list[int]]:
    return [[7, 20 + row] for row in range(rows)]


@dataclass(frozen=True)
class Additions:
    """Repeat term and blend of a retrieval."""

    repeats: RepeatTerm | None = None
    blend: Blend | None = None


def exact_scan(
    matrix: Tensor, bias: Tensor, scale: float = 0.0, additions: Additions | None = None
) -> ExactScan:
    added = additions or Additions()
    model = SessionRNN(ModelSize(ITEMS, HIDDEN, scale=scale))
    return ExactScan(model, matrix, bias, added.repeats, added.blend)


def complete_retrieval(
    kind: str, scale: float, additions: Additions | None = None, few_allowed: int = 40
) -> Retrieval:
    """Return a retrieval; the generated filters leave fewer and more items than `few_allowed`."""
    matrix, bias = item_vectors(scale)
    exact = exact_scan(matrix, bias, scale, additions)
    if kind == "exact":
        return exact
    scan = ItemScan(matrix, bias, lambda: np.arange(ITEMS, dtype=np.int32)[::-1])
    return Reranked(complete_index(kind, matrix, bias), exact, scale, scan, few_allowed)


def blend(weight: float, normalizing: int = NORMALIZING, votes: int = VOTES) -> Blend:
    """Return a blend with neighbours out of random sessions; some items are in none."""
    clicks = np.random.default_rng(3).integers(0, ITEMS // 2, 800, dtype=np.int32)
    sessions = Sessions(clicks, np.arange(800), np.arange(0, 801, 4), tuple(map(str, range(ITEMS))))
    index = build_neighbour_index(sessions, ITEMS, 2500)
    return Blend(index, BlendSettings(weight, VSTAN, normalizing, votes))


FALLING = RepeatTerm(last=3.0, earlier=-4.0, clicks=-1.0, earlier_length=-0.5, temperature=1.3)
# one item falls and the others rise, or the other way round
ADDITIONS = {
    "none": Additions(),
    "rising": Additions(RepeatTerm(last=-2.0, earlier=1.5, recency=-0.5, clicks=1.0)),
    "falling": Additions(FALLING),
    "blend": Additions(blend=blend(0.3)),
    "all": Additions(FALLING, blend(0.1, normalizing=7, votes=3)),
}
COMPLETE = {
    (kind, scale, name): complete_retrieval(kind, scale, additions)
    for kind in ("exact", *KINDS)
    for scale in (0.0, 9.0)
    for name, additions in ADDITIONS.items()
    if scale > 0 or additions.blend is None
}


def incomplete_retrieval(kind: str) -> Reranked:
    matrix, bias = item_vectors(0.0)
    index: CandidateIndex = circular_lists(matrix, bias, 50)
    if kind != "lists":
        index = Int8Index.of(matrix, bias, 3.0)
    return Reranked(index.with_probes(2), exact_scan(matrix, bias, 0.0, ADDITIONS["all"]), 0.0)


INCOMPLETE = {kind: incomplete_retrieval(kind) for kind in KINDS}


def brute_force(
    hidden: Tensor, scale: float, window: list[int], query: RankingQuery, additions: Additions
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the best items and the scores of all, in float64, one item at a time."""
    matrix, bias = item_vectors(scale)
    vector = hidden.double() / (hidden.double().norm() / scale if scale else 1)
    scores = [float(bias[i]) + float(matrix[i].double() @ vector) for i in range(ITEMS)]
    repeats, blend = additions.repeats, additions.blend
    if blend is not None:
        scores = [score / (repeats.temperature if repeats else 1.0) for score in scores]
        best = sorted(scores)[-blend.settings.normalizing :]
        total = sum(math.exp(score) for score in best)
        voted = blend.neighbours.score(rows_of([window]))
        votes = dict(zip(voted.items.tolist(), voted.scores.tolist(), strict=True))
        weight, whole = blend.settings.weight if votes else 0.0, sum(votes.values())
        counted = sorted(votes, key=lambda item: -np.float32(votes[item] / whole))
        for item in range(ITEMS):
            vote = votes[item] / whole if item in counted[: blend.settings.votes] else 0.0
            p = (1 - weight) * math.exp(scores[item]) / total + weight * vote
            scores[item] = math.log(p)
    if repeats is not None:
        for item, bonus in repeats.bonuses(window).items():
            scores[item] += bonus
    allowed = [
        item
        for item in range(ITEMS)
        if item not in query.excluded and (query.allowed is None or query.allowed.mask[item])
    ]
    return sorted(allowed, key=lambda item: -scores[item])[: query.k], np.array(scores)


def allowed_sets() -> st.SearchStrategy[AllowedItems | None]:
    share = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0])
    seeds = st.integers(0, 1000)
    random = st.builds(
        lambda p, s: AllowedItems.of_mask(np.random.default_rng(s).random(ITEMS) < p), share, seeds
    )
    return st.one_of(st.none(), random)


@st.composite
def ranking_queries(draw: st.DrawFn) -> RankingQuery:
    excluded = draw(st.lists(st.integers(0, ITEMS - 1), max_size=30))
    return RankingQuery(draw(st.integers(1, 25)), excluded, draw(allowed_sets()))


def items_of(lists: Sequence[TopK]) -> list[list[int]]:
    return [top_k.items for top_k in lists]


WINDOW = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=30)


@pytest.mark.parametrize(("kind", "scale", "name"), COMPLETE)
@given(
    visits=st.lists(st.tuples(ranking_queries(), WINDOW), min_size=1, max_size=4),
    seed=st.integers(0, 50),
)
def test_lists_equal_those_of_brute_force(
    kind: str,
    scale: float,
    name: str,
    visits: list[tuple[RankingQuery, list[int]]],
    seed: int,
) -> None:
    rows = hidden_states(len(visits), seed)
    queries, windows = [query for query, _ in visits], [window for _, window in visits]

    lists = COMPLETE[kind, scale, name].top_k(rows, windows, queries)

    for top_k, hidden, query, window in zip(lists, rows, queries, windows, strict=True):
        expected, scores = brute_force(hidden, scale, window, query, ADDITIONS[name])
        assert len(top_k.items) == len(expected)
        np.testing.assert_allclose(top_k.scores, scores[top_k.items], atol=1e-4)
        for have, want in zip(top_k.items, expected, strict=True):
            assert have == want or abs(scores[have] - scores[want]) < TIE


COLOURS = CategoricalAttribute.of([None if i % 7 == 0 else f"c{i % 5}" for i in range(ITEMS)])
SIZES = CategoricalAttribute.of([f"s{i // 50}" for i in range(ITEMS)])
weights = st.sampled_from([-1.0, 0.5, 3.0])


def boosts(attribute: CategoricalAttribute, values: Sequence[str]) -> st.SearchStrategy[Boost]:
    items_of = {value: attribute.items_in([value]) for value in values}
    weight_of = st.dictionaries(st.sampled_from(values), weights, max_size=3)
    return st.builds(Boost, st.just(attribute), weight_of, st.just(items_of))


COLOUR_BOOSTS, SIZE_BOOSTS = boosts(COLOURS, ["c1", "c4", "x"]), boosts(SIZES, ["s0", "s5"])
ruled_queries = st.builds(
    lambda query, rules: replace(query, rules=rules),
    ranking_queries(),
    st.builds(
        RankingRules,
        st.sampled_from([[COLOUR_BOOSTS], [COLOUR_BOOSTS, SIZE_BOOSTS]]).flatmap(
            lambda each: st.tuples(*each)
        ),
        st.lists(
            st.builds(Limit, st.sampled_from([COLOURS, SIZES]), st.integers(1, 4)), max_size=2
        ),
        st.lists(st.integers(0, ITEMS - 1), max_size=3),
    ),
)


@pytest.mark.parametrize(
    ("kind", "name"), [("lists", "none"), ("int8", "falling"), ("lists", "all")]
)
@given(visits=st.lists(st.tuples(ruled_queries, WINDOW), min_size=1, max_size=3))
def test_lists_by_rules_equal_those_from_the_scores_of_all_items(
    kind: str, name: str, visits: list[tuple[RankingQuery, list[int]]]
) -> None:
    """`tests/properties/test_list_rules.py` compares the latter with a plain loop."""
    scale, hidden = 9.0, hidden_states(len(visits))
    queries, windows = [query for query, _ in visits], [window for _, window in visits]

    found = COMPLETE[kind, scale, name].top_k(hidden, windows, queries)

    for top_k, exact in zip(
        found, COMPLETE["exact", scale, name].top_k(hidden, windows, queries), strict=True
    ):
        np.testing.assert_allclose(top_k.scores, exact.scores, atol=1e-4)
        near = [abs(a - b) < TIE for a, b in pairwise(sorted(exact.scores))]
        assert top_k.items == exact.items or any(near)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.integers(1, 40), seed=st.integers(0, 20))
def test_a_list_does_not_depend_on_its_batch(kind: str, rows: int, seed: int) -> None:
    """An index that overlooks items overlooks the same ones for a single query and in a batch."""
    retrieval = INCOMPLETE[kind]
    hidden = hidden_states(rows, seed)

    together = retrieval.top_k(hidden, clicks(rows), [RankingQuery()] * rows)
    alone = [
        retrieval.top_k(row[None], [window], [RankingQuery()])[0]
        for row, window in zip(hidden, clicks(rows), strict=True)
    ]

    assert items_of(together) == items_of(alone)


@pytest.mark.parametrize("kind", KINDS)
@given(queries=st.lists(ranking_queries(), min_size=2, max_size=6), seed=st.integers(0, 20))
def test_a_list_does_not_depend_on_the_other_queries_of_its_batch(
    kind: str, queries: list[RankingQuery], seed: int
) -> None:
    """A query that excludes many items needs more candidates; the other rows do not get them."""
    retrieval, hidden = INCOMPLETE[kind], hidden_states(len(queries), seed)

    together = retrieval.top_k(hidden, clicks(len(queries)), queries)
    alone = [
        retrieval.top_k(row[None], [window], [query])[0]
        for row, window, query in zip(hidden, clicks(len(queries)), queries, strict=True)
    ]

    assert items_of(together) == items_of(alone)


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_parts_changes_no_list(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many candidates are scored in parts, so that memory is bounded."""
    queries, hidden = [RankingQuery(5, range(100))] * 9, hidden_states(9)
    together = INCOMPLETE[kind].top_k(hidden, clicks(9), queries)
    monkeypatch.setattr(candidate_scorer, "VECTORS_AT_ONCE", 1)

    assert items_of(INCOMPLETE[kind].top_k(hidden, clicks(9), queries)) == items_of(together)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_nan_returns_no_item(kind: str) -> None:
    hidden = torch.full((1, HIDDEN), torch.nan)

    (top_k,) = INCOMPLETE[kind].top_k(hidden, clicks(1), [RankingQuery(5, [3, 4, 5])])

    assert top_k.items == []


def test_query_vectors_are_the_directions_that_the_model_scores_with() -> None:
    rows = torch.cat([hidden_states(3), torch.zeros(1, HIDDEN), hidden_states(1) * 1e-9])

    torch.testing.assert_close(torch.from_numpy(query_vectors(rows, 9.0)), 9.0 * unit(rows))


def test_an_index_overlooks_the_items_that_its_lists_do_not_hold() -> None:
    """So the laws above would notice an index that searches nothing."""
    matrix, bias = item_vectors(0.0)
    rows = hidden_states(20)

    short, complete = (
        Reranked(circular_lists(matrix, bias, length), exact_scan(matrix, bias), 0.0).top_k(
            rows, clicks(20), [RankingQuery()] * 20
        )
        for length in (3, ITEMS - COMMON)
    )

    assert items_of(short) != items_of(complete)


@pytest.mark.parametrize("kind", ["exact", *KINDS])
def test_equal_scores_stand_in_the_order_of_their_index(kind: str) -> None:
    matrix, bias = torch.ones(ITEMS, HIDDEN), torch.zeros(ITEMS)
    bias[[7, 200]] = 1.0
    exact = exact_scan(matrix, bias)
    retrieval: Retrieval = exact
    if kind != "exact":
        retrieval = Reranked(complete_index(kind, matrix, bias), exact, 0.0)
    allowed = AllowedItems.of_indices(np.array([200, 7, 5, 3, 9], np.int32), ITEMS)

    (top_k,) = retrieval.top_k(torch.ones(1, HIDDEN), clicks(1), [RankingQuery(4, allowed=allowed)])

    assert top_k.items == [7, 200, 3, 5]


def test_a_list_longer_than_max_k_is_exact() -> None:
    """Also where it is long because its best items are excluded."""
    matrix, bias = item_vectors(0.0)
    exact = exact_scan(matrix, bias)
    short = Reranked(circular_lists(matrix, bias, length=3), exact, 0.0)
    hidden = hidden_states(1)
    best = exact.top_k(hidden, clicks(1), [RankingQuery(MAX_K)])[0].items
    common = [item for item in best if item < COMMON]

    for query in (RankingQuery(MAX_K + 1), RankingQuery(MAX_K, excluded=common)):
        assert short.quick_top_k(hidden, clicks(1), [query]) == [None]
        assert short.top_k(hidden, clicks(1), [query]) == exact.top_k(hidden, clicks(1), [query])
    assert short.top_k(hidden, clicks(1), [RankingQuery()]) != exact.top_k(
        hidden, clicks(1), [RankingQuery()]
    )


def test_a_filter_of_many_items_is_quick_once_the_codes_are_made() -> None:
    matrix, bias = item_vectors(0.0)
    exact = exact_scan(matrix, bias)
    scan = ItemScan(matrix, bias, lambda: np.arange(ITEMS, dtype=np.int32))
    retrieval = Reranked(circular_lists(matrix, bias, length=3), exact, 0.0, scan, few_allowed=3)
    allowed = AllowedItems.of_indices(np.arange(40, 80, dtype=np.int32), ITEMS)
    arguments = hidden_states(1), clicks(1), [RankingQuery(10, allowed=allowed)]

    first, lists = retrieval.quick_top_k(*arguments), retrieval.top_k(*arguments)

    assert first == [None]
    assert lists == retrieval.quick_top_k(*arguments)
    assert items_of(lists) == items_of(exact.top_k(*arguments))
