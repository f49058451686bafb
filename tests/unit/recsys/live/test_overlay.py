"""A predictor with an overlay answers as one whose tables hold all items as they are now."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import Catalogue, Filter
from recsys.errors import UnknownAttribute, WrongContent
from recsys.live.entry import ItemEntry, check_change, text_of
from recsys.live.overlay import Overlay, OverlayCounts
from recsys.model.event_types import EventTypes
from recsys.model.gru4rec import SessionRNN
from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor, SessionState
from recsys.retrieval.exact import RankingQuery
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rerank import Reranked
from recsys.retrieval.rules import Boost, Limit, RankingRules
from tests.support.bundles.content_bundle import (
    BRANDS,
    IDS,
    ITEMS,
    PRICES,
    RECIPE,
    content_predictor,
)

NEW = ["a-new-one", "new-1", "new-2"]
REPEATS = RepeatTerm(last=-1.0, earlier=0.5, recency=-0.3, clicks=0.4)
FILTERS: list[Filter] = [
    {},
    {"brand": ["Ada", "Dee"]},
    {"price": Range(gte=10, lt=31)},
    {"brand": ["Bob"]},
]

ENTRIES = st.dictionaries(
    st.sampled_from([*IDS[:5], *NEW]),
    st.builds(
        ItemEntry,
        available=st.booleans(),
        attributes=st.dictionaries(st.just("brand"), st.sampled_from(["Ada", "Dee", None]))
        | st.fixed_dictionaries({"price": st.sampled_from([7, 30.5])}),
        vectors=st.just({}) | st.just({"image": [0.5, -1.0]}),
    ),
    max_size=6,
)
WINDOWS = st.lists(st.integers(0, ITEMS + len(NEW) - 1), max_size=5)


@pytest.fixture(scope="module")
def base() -> Predictor:
    return content_predictor().with_repeats(REPEATS)


@pytest.fixture(scope="module", params=["exact", "indexed"])
def any_base(request: pytest.FixtureRequest, base: Predictor) -> Predictor:
    """Return a predictor that scores all items, and one whose index finds candidates."""
    if request.param == "exact":
        return base
    exact = base.exact_retrieval
    index = Int8Index.of(exact.matrix, exact.bias, 3.0)
    scan = ItemScan(exact.matrix, exact.bias, lambda: np.arange(ITEMS, dtype=np.int32))
    return base.with_retrieval(Reranked(index, exact, RECIPE.scale, scan, few_allowed=2))


def materialised(base: Predictor, entries: dict[str, ItemEntry]) -> tuple[Predictor, np.ndarray]:
    """Return a predictor with the tables of all items, and which of them are available."""
    assert base.content is not None
    exact = base.exact_retrieval
    placed = sorted(i for i, e in entries.items() if i in NEW and (e.attributes or e.vectors))
    content = [(entries[item_id].attributes, entries[item_id].vectors) for item_id in placed]
    matrix, bias = exact.matrix, exact.bias
    if content:
        vectors, biases = base.content.encode(content)
        matrix, bias = torch.cat([matrix, vectors]), torch.cat([bias, biases])
    brands = dict(zip(IDS, BRANDS, strict=True))
    prices = {item_id: f"{price:g}" for item_id, price in zip(IDS, PRICES, strict=True)}
    ids = [*IDS, *placed]
    attributes = {
        name: [
            text_of(entries[i].attributes[name])
            if i in entries and name in entries[i].attributes
            else texts.get(i)
            for i in ids
        ]
        for name, texts in {"brand": brands, "price": prices}.items()
    }
    counts = np.append(base.catalogue.counts, np.zeros(len(placed), np.int64))
    whole = Predictor(
        base._model,
        matrix,
        bias,
        Catalogue(ids, counts, attributes),
        layers=base.layers,
        state_width=base.state_width,
        window=base.window,
        repeats=base.repeats,
    )
    return whole, np.array([entries[i].available if i in entries else True for i in ids])


@given(st.lists(ENTRIES, min_size=1, max_size=3), WINDOWS)
def test_an_overlay_answers_as_a_model_of_all_items(
    any_base: Predictor, calls: Sequence[dict[str, ItemEntry]], clicks: Sequence[int]
) -> None:
    """Also for changes that come one after the other, and in another order."""
    base = any_base
    overlay = Overlay(base)
    entries: dict[str, ItemEntry] = {}
    for call in calls:
        overlay.apply(call)
        overlay.predictor()
        entries |= call
    whole, available = materialised(base, entries)
    live = overlay.predictor()
    window = [item for item in clicks if item < len(available)]

    state = live.advance([SessionState(window)])

    torch.testing.assert_close(state, whole.advance([SessionState(window)]))
    by_id = [live.catalogue.find(item_id) for item_id in whole.catalogue.item_ids]
    assert by_id == list(range(len(available)))
    shown = np.flatnonzero(available)
    for wanted in FILTERS:
        for rules in (False, True):
            lists = []
            for predictor in (live, whole):
                catalogue = predictor.catalogue
                allowed = catalogue.allowed(wanted) if wanted else None
                if predictor is whole:
                    mask = available & catalogue.allowed(wanted).mask
                    allowed = AllowedItems.of_mask(mask)
                columns = catalogue.attributes
                weights = {"Ada": 0.5, "Dee": -0.25}
                boosted = {value: catalogue.allowed({"brand": [value]}) for value in weights}
                ruled = RankingRules(
                    [Boost(columns["brand"], weights, boosted)],
                    [Limit(columns["price"], 2)],
                    [len(available) - 1, 0],
                )
                query = RankingQuery(6, [1], allowed, ruled if rules else None)
                lists.append(predictor.rank(state, [window], [query])[0])
                lists.append(predictor.similar(len(available) - 1, query))
            for live_list, whole_list in zip(lists[:2], lists[2:], strict=True):
                assert set(live_list.items) <= set(shown.tolist())
                if window or live_list is lists[1]:
                    assert live_list.items == whole_list.items
                    assert live_list.scores == pytest.approx(whole_list.scores, abs=1e-5)
                else:  # of popular items, new ones have other shares
                    assert live_list.items == whole_list.items or rules


def test_without_entries_the_predictor_is_that_of_the_bundle(base: Predictor) -> None:
    overlay = Overlay(base)
    overlay.apply({IDS[0]: ItemEntry(available=False), "new": ItemEntry(False, {"brand": "Ada"})})
    assert overlay.counts == OverlayCounts(changed=0, unavailable=2, placed=1, not_placed=0)

    overlay.apply({IDS[0]: None, "new": None})

    assert overlay.predictor() is base
    assert overlay.counts == OverlayCounts()


def test_popular_items_keep_their_scores_and_new_ones_follow(base: Predictor) -> None:
    overlay = Overlay(base)
    overlay.apply({item_id: ItemEntry(True, {"brand": "Ada"}) for item_id in NEW[::-1]})

    plain = base.recommend([], RankingQuery(ITEMS))
    ranking = overlay.predictor().recommend([], RankingQuery(ITEMS + 3))

    assert ranking.items == [*plain.items, ITEMS, ITEMS + 1, ITEMS + 2]
    assert ranking.scores[:ITEMS] == plain.scores
    assert sorted(set(ranking.scores), reverse=True) == ranking.scores


@given(st.dictionaries(st.sampled_from([*IDS[:4], *NEW]), st.integers(1, 9)), ENTRIES, WINDOWS)
def test_counts_of_clicks_are_those_of_a_model_of_all_items(
    any_base: Predictor, clicks: dict[str, int], entries: dict[str, ItemEntry], window: list[int]
) -> None:
    """Counts that come before an item is placed count for it, too."""

    def counted(predictor: Predictor) -> Predictor:
        counts = np.zeros(len(predictor.catalogue))
        for item_id, number in clicks.items():
            if (item := predictor.catalogue.find(item_id)) is not None:
                counts[item] = number
        return predictor.with_counts(RecentPopularity(counts, settings))

    settings = RecentPopularitySettings(0.5, half_life_seconds=60)
    overlay = Overlay(any_base)
    overlay.recount(counted)
    overlay.apply(entries)
    live = overlay.predictor()
    whole, available = materialised(any_base, entries)
    whole = counted(whole)
    shown = RankingQuery(len(available), allowed=AllowedItems.of_mask(available))

    for clicked in ([], [item for item in window if item < len(available)]):
        ranking, expected = live.recommend(clicked, shown), whole.recommend(clicked, shown)
        assert ranking.items == expected.items
        assert ranking.scores == pytest.approx(expected.scores, abs=1e-5)


def test_an_entry_of_another_bundle_that_does_not_fit_is_not_applied(base: Predictor) -> None:
    overlay = Overlay(base)
    overlay.apply(
        {
            IDS[1]: ItemEntry(True, {"price": "cheap", "colour": "red", "brand": "Dee"}),
            "a": ItemEntry(True, {"price": "cheap"}),
            "b": ItemEntry(True, {}, {"image": [1.0, 2.0, 3.0]}),
            "c": ItemEntry(),
        }
    )

    catalogue = overlay.predictor().catalogue
    assert overlay.counts == OverlayCounts(changed=1, unavailable=0, placed=0, not_placed=3)
    assert catalogue.attributes_of(1, ["brand", "price"]) == {"brand": "Dee", "price": "5"}


@pytest.mark.parametrize(
    ("attributes", "vectors", "field"),
    [
        ({"colour": "red"}, {}, "attributes.colour"),
        ({"price": "cheap"}, {}, "attributes.price"),
        ({"price": "5"}, {}, "attributes.price"),
        ({}, {"image": [1.0]}, "vectors.image"),
        ({}, {"image": [1.0, float("nan")]}, "vectors.image"),
        ({}, {"sound": [1.0, 2.0]}, "vectors.sound"),
    ],
)
def test_a_wrong_change_names_its_field(
    base: Predictor, attributes: dict[str, object], vectors: dict[str, list[float]], field: str
) -> None:
    with pytest.raises((UnknownAttribute, WrongContent)) as refused:
        check_change(base.catalogue, base.content, attributes, vectors)

    assert getattr(refused.value, "field", None) == field


def test_the_id_of_a_state_names_the_vectors_of_new_items_in_its_window(base: Predictor) -> None:
    overlay = Overlay(base)
    overlay.apply({"new-1": ItemEntry(True, {"brand": "Ada"}), IDS[0]: ItemEntry(available=False)})
    first = overlay.predictor()
    overlay.apply({"new-1": ItemEntry(False, {"brand": "Ada"})})
    sold_out = overlay.predictor()
    overlay.apply({"new-1": ItemEntry(True, {"brand": "Bob"})})
    changed = overlay.predictor()

    old, new = [0, 1], [0, ITEMS]
    assert first.state_id(old) == changed.state_id(old) == base.model_id
    assert first.state_id(new) == sold_out.state_id(new) != base.model_id
    assert changed.state_id(new) != first.state_id(new)


def test_a_click_on_a_new_item_has_its_type(base: Predictor) -> None:
    """Codes hold item and type, and the rows of new items come from another table."""
    typed, types = copy.copy(base), EventTypes(("view", "cart"), "view")
    model = SessionRNN(dataclasses.replace(RECIPE.size(ITEMS), event_types=types.count))
    model.load_state_dict(base._model.state_dict(), strict=False)  # type: ignore[attr-defined]
    assert model.events is not None
    with torch.no_grad():
        model.events[2] = 0.5
    typed._model, typed.event_types = model, types
    entries = {"new-1": ItemEntry(vectors={"image": [0.5, -1.0]})}
    overlay = Overlay(typed)
    overlay.apply(entries)
    live, (whole, _) = overlay.predictor(), materialised(typed, entries)
    whole.event_types = types
    clicks = live.known([IDS[0], "new-1", IDS[4]], ["view", "cart", None])

    state = live.advance([SessionState(clicks)])

    assert clicks == [0 * 3 + 1, ITEMS * 3 + 2, 4 * 3 + 1]
    torch.testing.assert_close(state, whole.advance([SessionState(clicks)]))
    first = live.advance([SessionState(clicks[:2])])[:, 0]
    torch.testing.assert_close(state, live.advance([SessionState(clicks[2:], first)]))
    viewed = live.known([IDS[0], "new-1", IDS[4]])
    assert not torch.allclose(state, live.advance([SessionState(viewed)]))
    assert live.state_id(clicks[:1]) == live.model_id != live.state_id(clicks)
