"""Which way of finding items a bundle takes: the quickest that overlooks almost nothing."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import INDEX
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import read_manifest
from recsys.predictor import Predictor, SessionState
from recsys.retrieval import int8 as int8_codes
from recsys.retrieval.candidates import CandidateIndex, IndexSettings
from recsys.retrieval.exact import Reranked
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.quantised import QuantisedItems
from tests.support.bundles.broken_bundles import edit_manifest, sign
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from tests.unit.recsys.bundle.test_load import refused
from training.model.weights import Weights
from training.pipeline import TrainOptions, train
from training.recipe import Recipe
from training.retrieval import build_item_lists as item_lists
from training.retrieval import recall_check as retrieval
from training.retrieval.build_index import build_index
from training.retrieval.build_item_lists import build_item_lists
from training.retrieval.recall_check import (
    EVERY_ITEM,
    RecallCheck,
    States,
    choose_retrieval,
    masks,
    states_along,
    states_from,
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


def test_a_small_catalogue_is_scored_whole(
    weights: Weights, predictor: Predictor, held_out: Sessions
) -> None:
    assert choose_retrieval(SMALL, weights, predictor, held_out) is EVERY_ITEM


def test_neighbours_need_every_score(
    blended: TrainedShop, weights: Weights, held_out: Sessions
) -> None:
    predictor = open_predictor(blended.bundle)

    assert choose_retrieval(with_retrieval("int8"), weights, predictor, held_out) is EVERY_ITEM


@pytest.mark.parametrize("kind", ["lists", "ivf", "pq4", "int8", "fp16"])
def test_a_way_that_passes_is_taken_with_what_it_found(
    kind: str, weights: Weights, predictor: Predictor, held_out: Sessions
) -> None:
    chosen = choose_retrieval(with_retrieval(kind), weights, predictor, held_out)

    assert chosen.settings.kind == kind, chosen
    assert set(chosen.settings.recall) == {"0", "0.5", "0.99", "best 20"}
    assert min(chosen.settings.recall.values()) >= 0.99
    assert chosen.settings.states > 100
    assert chosen.settings.refused == {}


def test_a_way_that_fails_gives_way_to_the_next_more_exact_one(
    weights: Weights, predictor: Predictor, held_out: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = retrieval._built

    def blind(kind: str, predictor: Predictor, *rest: Any) -> CandidateIndex:
        """Of all but fp16: an index of other vectors, or lists of other items."""
        if kind == "lists":
            return backwards(build_item_lists(predictor, SMALL.scale, 1.0))
        matrix, bias = predictor.exact_retrieval.matrix, predictor.exact_retrieval.bias
        return (
            build_index(-matrix, bias, kind, 1.0)
            if kind != "fp16"
            else build(kind, predictor, *rest)
        )

    monkeypatch.setattr(retrieval, "_built", blind)
    monkeypatch.setattr(retrieval, "PROBES", {"lists": (1,), "ivf": (1,)})
    for module in (int8_codes, item_lists):  # else the small shop is found whole
        monkeypatch.setattr(module, "WANTED_PER_GROUP", 20)
    tried: list[str] = []

    chosen = choose_retrieval(with_retrieval("lists"), weights, predictor, held_out, tried.append)

    assert list(dict.fromkeys(tried)) == ["lists", "ivf", "pq4", "int8", "fp16"]
    assert chosen.settings.kind == "fp16"
    assert set(chosen.settings.refused) == {"lists", "ivf", "pq4", "int8"}
    assert max(chosen.settings.refused.values()) < 0.99


def backwards(made: ItemLists) -> ItemLists:
    """Every item has the list of another one."""
    lists, common, vectors = made._tensors()
    return ItemLists(lists.flip(0), common, vectors, made.settings)


def test_recall_is_the_share_of_the_exact_lists(weights: Weights, predictor: Predictor) -> None:
    """An index that finds every second item finds half of what is wanted; the few find all."""

    class Half(QuantisedItems):
        def candidates(self, queries, clicks, wanted, allowed=None):  # type: ignore[no-untyped-def]
            found = super().candidates(queries, clicks, 1000, allowed)
            return np.where(found % 2 == 0, found, -1)

    index = build_index(weights.matrix, weights.bias, "fp16", SMALL.scale)
    half = Half(index._index, index.settings)
    reads = torch.randn(400, SMALL.hidden, generator=torch.Generator().manual_seed(1))

    recall = RecallCheck(predictor, States(reads, [[0]] * 400)).recall(
        Reranked(half, predictor.exact_retrieval, SMALL.scale, few=10)
    )

    assert recall["0"] == pytest.approx(0.5, abs=0.1)
    assert recall["0.5"] == pytest.approx(0.5, abs=0.1)
    assert recall["0.99"] == 1.0
    assert recall["best 20"] == pytest.approx(0.5, abs=0.1)


def test_masks_leave_out_nothing_half_and_almost_all() -> None:
    none, half, most = masks(100_000, seed=1)

    assert none is None
    assert half is not None
    assert half.mean() == pytest.approx(0.5, abs=0.01)
    assert most is not None
    assert most.mean() == pytest.approx(0.01, abs=0.002)


def test_states_come_from_validation_sessions(predictor: Predictor, held_out: Sessions) -> None:
    states = states_along(predictor, held_out)

    assert 100 < len(states) <= retrieval.STATES + 50
    for read, clicks in zip(states.reads, states.clicks, strict=True):
        state = predictor.advance([SessionState(clicks)])
        torch.testing.assert_close(read, state[-1, 0, : SMALL.hidden])


@pytest.fixture(scope="module")
def indexed(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """The same shop, found by an index."""
    out = tmp_path_factory.mktemp("indexed") / "bundle"
    recipe = dataclasses.replace(with_retrieval("ivf"), epochs=2, refit=False)
    options = TrainOptions(ClickOptions(trained.clicks), out, recipe)
    train(options, Console(quiet=True))
    return dataclasses.replace(trained, bundle=out)


def test_a_bundle_holds_the_index_and_says_what_it_finds(indexed: TrainedShop) -> None:
    manifest = read_manifest(indexed.bundle)

    assert manifest.retrieval.kind == "ivf"
    assert INDEX in manifest.files
    assert min(manifest.retrieval.recall.values()) >= 0.99
    exact = open_predictor(indexed.bundle).exactly()
    found = open_predictor(indexed.bundle)
    shared = [
        set(exact.recommend([item]).items) & set(found.recommend([item]).items)
        for item in range(100)
    ]
    assert np.mean([len(both) / 20 for both in shared]) >= 0.99


def test_an_index_of_other_weights_is_refused_under_true_digests(
    indexed: TrainedShop, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(indexed.bundle, tmp_path / "bundle"))
    opened = load_bundle(bundle)
    settings = opened.manifest.retrieval.index
    assert settings is not None
    other = build_index(-opened.matrix, opened.bias, "ivf", settings.bias_unit)
    other.write(bundle / INDEX)
    sign(bundle)

    assert "It belongs to other weights" in refused(bundle)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "pq"}, "retrieval is one of"),
        ({"kind": "int8"}, "disagree"),
        ({"index": None}, "disagree"),
        ({"kind": "exact", "index": None}, "belong together"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    indexed: TrainedShop, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    bundle = Path(shutil.copytree(indexed.bundle, tmp_path / "bundle"))
    edit_manifest(bundle, lambda manifest: manifest["retrieval"].update(change))

    assert says in refused(bundle)


@pytest.mark.parametrize(
    "wrong", [{"kind": "pq"}, {"bias_unit": 0.0}, {"bias_unit": 1}, {"probes": 0}, {"probes": 1.5}]
)
def test_settings_of_an_index_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|one of"):
        IndexSettings(**{"kind": "ivf", "bias_unit": 1.0, "probes": 4, **wrong})
