"""A bundle takes the cheapest retrieval that overlooks almost nothing."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import INDEX
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import read_manifest
from recsys.predictor import Predictor, SessionState
from recsys.retrieval import int8
from recsys.retrieval.candidates import CandidateIndex, Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import Reranked
from tests.support.bundles.broken_bundles import edit_manifest, sign
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.unit.recsys.bundle.test_load import refused
from training.model.weights import Weights
from training.pipeline import TrainOptions, train
from training.recipe import Recipe
from training.retrieval import build_item_lists as building
from training.retrieval import recall_check
from training.retrieval.build_item_lists import build_item_lists
from training.retrieval.recall_check import (
    EVERY_ITEM,
    RecallCheck,
    States,
    allowed_sets,
    choose_retrieval,
    states_from,
    validation_states,
)


@pytest.fixture(scope="module")
def held_out(trained: TrainedShop) -> Sessions:
    return states_from(prepare(ClickOptions(trained.clicks)), SMALL)


@pytest.fixture(scope="module")
def weights(trained: TrainedShop) -> Weights:
    bundle = load_bundle(trained.bundle)
    made = Weights.fresh(bundle.manifest.size, torch.Generator())
    made.matrix.copy_(bundle.matrix)
    made.bias.copy_(bundle.bias)
    return made


def with_retrieval(kind: str) -> Recipe:
    return dataclasses.replace(SMALL, retrieval=kind)


def test_a_small_catalogue_is_scored_exactly(
    weights: Weights, predictor: Predictor, held_out: Sessions
) -> None:
    assert choose_retrieval(SMALL, weights, predictor, held_out) is EVERY_ITEM


def test_an_index_finds_the_lists_of_a_blend_with_neighbours(
    blended: TrainedShop, weights: Weights, held_out: Sessions
) -> None:
    predictor = open_predictor(blended.bundle)

    chosen = choose_retrieval(with_retrieval("lists"), weights, predictor, held_out)

    assert chosen.settings.kind == "lists", chosen
    assert min(chosen.settings.recall.values()) >= 0.99


@pytest.mark.parametrize("kind", ["lists", "int8"])
def test_a_kind_that_passes_is_taken_with_its_recall(
    kind: str, weights: Weights, predictor: Predictor, held_out: Sessions
) -> None:
    chosen = choose_retrieval(with_retrieval(kind), weights, predictor, held_out)

    assert chosen.settings.kind == kind, chosen
    assert set(chosen.settings.recall) == {"0", "0.5", "0.99", "best 20"}
    assert min(chosen.settings.recall.values()) >= 0.99
    assert chosen.settings.states > 100
    assert chosen.settings.refused == {}


def index_of_other_weights(kind: str, predictor: Predictor) -> CandidateIndex:
    """Return an index of negated vectors, or lists in which every item has another item's list."""
    if kind == "lists":
        return backwards(build_item_lists(predictor, SMALL.scale, 1.0))
    exact = predictor.exact_retrieval
    return Int8Index.of(-exact.matrix, exact.bias, 1.0)


def backwards(made: ItemLists) -> ItemLists:
    lists, common, vectors = made.tensors()
    return ItemLists(lists.flip(0), common, vectors, made.settings)


@pytest.mark.parametrize("right", ["int8", None])
def test_a_kind_that_fails_is_replaced_by_the_next_more_exact_one(
    right: str | None,
    weights: Weights,
    predictor: Predictor,
    held_out: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every kind fails, items are scored exactly."""
    build = recall_check.build_index

    def build_wrong(kind: str, predictor: Predictor, *rest: Any) -> CandidateIndex:
        if kind == right:
            return build(kind, predictor, *rest)
        return index_of_other_weights(kind, predictor)

    monkeypatch.setattr(recall_check, "build_index", build_wrong)
    monkeypatch.setattr(recall_check, "PROBES", {"lists": (1,)})
    # fewer candidates, else the index of a small shop returns every item
    monkeypatch.setattr(building, "CANDIDATES_PER_GROUP", 20)
    if right is None:
        monkeypatch.setattr(int8, "CANDIDATES_PER_GROUP", 20)
    kinds: list[str] = []

    chosen = choose_retrieval(with_retrieval("lists"), weights, predictor, held_out, kinds.append)

    assert list(dict.fromkeys(kinds)) == ["lists", "int8"]
    assert chosen.settings.kind == (right or "exact")
    assert set(chosen.settings.refused) == {"lists", "int8"} - {right}
    assert max(chosen.settings.refused.values()) < 0.99


def test_recall_is_the_share_of_the_exact_lists(weights: Weights, predictor: Predictor) -> None:
    """An index that finds every second item has a recall of one half.

    Where few items are allowed, all of them are scored without the index.
    """

    class EverySecondItem(Int8Index):
        def candidates(self, queries, clicks, count):  # type: ignore[no-untyped-def]
            items = super().candidates(queries, clicks, 1000)
            return np.where(items % 2 == 0, items, -1)

    index = Int8Index.of(weights.matrix, weights.bias, SMALL.scale)
    half = EverySecondItem(index._codes, index.settings)
    hidden = torch.randn(400, SMALL.hidden, generator=torch.Generator().manual_seed(1))

    recall = RecallCheck(predictor, States(hidden, [[0]] * 400)).recall(
        Reranked(half, predictor.exact_retrieval, SMALL.scale, few_allowed=10)
    )

    assert recall["0"] == pytest.approx(0.5, abs=0.1)
    assert recall["0.5"] == pytest.approx(0.5, abs=0.1)
    assert recall["0.99"] == 1.0
    assert recall["best 20"] == pytest.approx(0.5, abs=0.1)


def test_lists_that_are_left_to_an_exact_scan_count_as_exact(predictor: Predictor) -> None:
    class Half:
        """Retrieval that finds nothing without a filter, and leaves lists with one to a scan."""

        def over(self, exact: ExactScan) -> ExactScan:
            return exact

        def top_k(self, *_: object) -> list[TopK]:
            raise AssertionError("the exact lists are known")

        def quick_top_k(
            self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
        ) -> list[TopK | None]:
            return [TopK([], []) if query.allowed is None else None for query in queries]

        def with_new_items(self, _: object) -> "Half":
            return self

    hidden = torch.randn(40, SMALL.hidden, generator=torch.Generator().manual_seed(1))

    recall = RecallCheck(predictor, States(hidden, [[0]] * 40)).recall(Half())

    assert recall == {"0": 0.0, "0.5": 1.0, "0.99": 1.0, "best 20": 0.0}


def test_recall_in_a_very_large_catalogue_is_measured_on_fewer_states(
    predictor: Predictor, held_out: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many that the work is that of the limit: half the states for twice the items."""
    items = len(predictor.catalogue)
    monkeypatch.setattr(recall_check, "STATES", 400)
    all_states = len(validation_states(predictor, held_out))
    monkeypatch.setattr(recall_check, "MAX_PAIRED_ITEMS", items // 2)

    half = len(validation_states(predictor, held_out))

    assert all_states > 200
    assert half == pytest.approx(all_states / 2, rel=0.25)  # sessions are halved, not states


def test_sets_exclude_no_item_half_of_them_and_almost_all() -> None:
    none, half, most = allowed_sets(100_000, seed=1)

    assert none is None
    assert half is not None
    assert half.share == pytest.approx(0.5, abs=0.01)
    assert most is not None
    assert most.share == pytest.approx(0.01, abs=0.002)


def test_states_come_from_validation_sessions(predictor: Predictor, held_out: Sessions) -> None:
    states = validation_states(predictor, held_out)

    assert 100 < len(states) <= recall_check.STATES + 50
    for hidden, clicks in zip(states.hidden, states.clicks, strict=True):
        state = predictor.advance([SessionState(clicks)])
        torch.testing.assert_close(hidden, state[-1, 0, : SMALL.hidden])


@pytest.fixture(scope="module")
def indexed(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """Return the same shop, with item lists in its bundle."""
    out = tmp_path_factory.mktemp("indexed") / "bundle"
    recipe = dataclasses.replace(with_retrieval("lists"), epochs=2, refit=False)
    options = TrainOptions(ClickOptions(trained.clicks), out, recipe)
    train(options, Console(quiet=True))
    return dataclasses.replace(trained, bundle=out)


def test_a_bundle_holds_the_index_and_its_recall(indexed: TrainedShop) -> None:
    manifest = read_manifest(indexed.bundle)

    assert manifest.retrieval.kind == "lists"
    assert INDEX in manifest.files
    assert min(manifest.retrieval.recall.values()) >= 0.99
    exact = open_predictor(indexed.bundle).with_exact_retrieval()
    by_index = open_predictor(indexed.bundle)
    shared = [
        set(exact.recommend([item]).items) & set(by_index.recommend([item]).items)
        for item in range(100)
    ]
    assert np.mean([len(both) / 20 for both in shared]) >= 0.99


def test_an_index_of_other_weights_is_refused_even_with_matching_digests(
    indexed: TrainedShop, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(indexed.bundle, tmp_path / "bundle"))
    index = load_bundle(bundle).index
    assert isinstance(index, ItemLists)
    backwards(index).write(bundle / INDEX)
    sign(bundle)

    assert "It belongs to other weights" in refused(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pq"}, "retrieval is one of"),
        ({"kind": "int8"}, "disagree"),
        ({"index": None}, "disagree"),
        ({"kind": "exact", "index": None}, "belong together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    indexed: TrainedShop, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    bundle = Path(shutil.copytree(indexed.bundle, tmp_path / "bundle"))
    edit_manifest(bundle, lambda manifest: manifest["retrieval"].update(change))

    assert message in refused(bundle)
