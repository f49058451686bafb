"""Event types from the log to the answer: what was measured is what is served."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import recsys
from data.click_options import ClickOptions
from data.prepare import Prepared, prepare
from data.sessions import reindex
from recsys.bundle.golden import open_predictor, read_golden
from recsys.bundle.layout import GOLDEN
from recsys.bundle.manifest import read_manifest
from recsys.errors import BadRecipe
from recsys.model.ranking import UNRANKED
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from service.app import create_app
from service.settings import Settings
from tests.benchmarks.replay_over_http import ranks_over_http, types_of
from tests.support.bundles.model_kinds import TYPES, ModelKinds
from tests.support.service.app_client import PATIENT, client_of
from tests.support.training.typed_log import FOLLOWED, SHARES, write_typed_log
from training.batch_recommend import BatchOptions, recommend_all
from training.evaluation.evaluate import evaluate
from training.pipeline import TrainOptions, train
from training.recipe import Recipe
from training.warm_start import WarmStart, read_base_model

ITEMS = 24
QUIET = Console(quiet=True)
RECIPE = Recipe(
    hidden=32,
    epochs=8,
    batch=32,
    dropout_embedding=0.0,
    dropout_hidden=0.0,
    refit=False,
    scored_items="all",
    repeats="none",
    recent_popularity="none",
)


@dataclasses.dataclass(frozen=True)
class Typed:
    """Click log with types, and a bundle that was trained on it."""

    clicks: ClickOptions
    bundle: Path

    @property
    def prepared(self) -> Prepared:
        return prepare(self.clicks)

    @property
    def predictor(self) -> Predictor:
        return open_predictor(self.bundle)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Typed:
    folder = tmp_path_factory.mktemp("typed")
    log = write_typed_log(folder / "clicks.csv", 1000, ITEMS)
    clicks = ClickOptions(log, event_column="event")
    return Typed(clicks, train(TrainOptions(clicks, folder / "bundle", RECIPE), QUIET))


def test_a_model_with_types_is_better_than_any_without(typed: Typed) -> None:
    """The ceilings are those of the generator; 500 cases deviate by .02 (one standard error)."""
    metrics = read_manifest(typed.bundle).metrics

    random_hits = (1 - FOLLOWED) / ITEMS
    without, ceiling = SHARES["view"] * FOLLOWED + random_hits, FOLLOWED + random_hits
    assert without + 0.15 < metrics["model"]["recall@1"] < ceiling + 0.06
    assert set(metrics["event_types"]) == set(SHARES)
    assert sum(part["cases"] for part in metrics["event_types"].values()) == metrics["cases"]
    assert 0.8 < metrics["weighted_recall@20"]["model"] <= 1


def test_the_bundle_has_the_types_and_golden_sessions_with_types(typed: Typed) -> None:
    types = read_manifest(typed.bundle).event_types

    assert types is not None
    assert (types.names, types.default) == (("cart", "order", "view"), "view")
    golden = read_golden(typed.bundle / GOLDEN)
    assert {event for session in golden for event in session.events} >= {"cart", "view", None}
    assert all(len(session.events) == len(session.clicks) for session in golden)


async def test_served_is_measured(typed: Typed, redis_url: str) -> None:
    predictor = typed.predictor
    sessions = reindex(typed.prepared.test, predictor.catalogue.item_ids).part(0, 40)
    measured = evaluate(predictor, sessions, ITEMS).ranked.rank

    app = create_app(Settings(bundle=typed.bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        served = await ranks_over_http(client, sessions)

    assert served == [rank if rank <= 20 else UNRANKED for rank in measured.tolist()]


def test_a_purchase_excludes_its_item_offline_and_online(model_kinds: ModelKinds) -> None:
    predictor = open_predictor(model_kinds.typed_bundle("gru shared", window=9))
    without = copy.copy(predictor)
    without.event_types = dataclasses.replace(TYPES, exclude_after=())
    ids = predictor.catalogue.item_ids
    clicks = predictor.known([ids[3], ids[5], ids[7]], ["order", "cart", "order"])
    every = RankingQuery(len(ids))

    listed, plain = predictor.recommend(clicks, every).items, without.recommend(clicks, every).items
    along = np.array([*clicks, clicks[0]], dtype=np.int32)
    scores = predictor.scores_along([along])
    predictor.exclude_along(scores, [along])

    assert listed == [item for item in plain if item not in (3, 7)]
    assert [torch.isinf(row).nonzero().flatten().tolist() for row in scores] == [[3], [3], [3, 7]]


def test_lists_of_a_file_are_those_of_the_api_of_python(typed: Typed, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    recommend_all(BatchOptions(typed.bundle, typed.clicks, out, k=5), QUIET)
    rows = pq.read_table(out).to_pylist()
    test, model = typed.prepared.test, recsys.load(typed.bundle)
    item_ids = [test.item_ids[code] for code in test[0].tolist()]

    listed = model.recommend(item_ids, 5, event_types=types_of(test, 0))["item_id"].tolist()

    by_visitor: dict[str, list[str]] = {}
    for row in rows:
        by_visitor.setdefault(row["session_id"], []).append(row["item_id"])
    assert listed in by_visitor.values()
    assert listed != model.recommend(item_ids, 5)["item_id"].tolist()


def test_a_continued_model_keeps_its_types(typed: Typed) -> None:
    start = WarmStart(read_base_model(typed.bundle))
    new = dataclasses.replace(typed.prepared.train, event_types=("cart", "view", "wish"))

    types = start.event_types(new, RECIPE)

    assert types == read_manifest(typed.bundle).event_types
    with pytest.raises(BadRecipe, match="exclude_after names 'wish'"):
        start.event_types(new, dataclasses.replace(RECIPE, exclude_after="wish"))
