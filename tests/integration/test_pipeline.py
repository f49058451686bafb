"""From a click file to an HTTP answer: eager model, TorchScript and HTTP give the same lists."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.predictor import Predictor
from service.app import create_app
from service.settings import Settings
from tests.benchmarks.replay_over_http import ranks_over_http
from tests.support.bundles.model_kinds import KINDS, ModelKinds
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import PATIENT, client_of
from tests.support.training.builders import Quiet
from training.additions.blend import blend_of
from training.additions.chooser import chooser_of
from training.evaluation.evaluate import evaluate
from training.evaluation.metrics import metrics_at
from training.export import Export, write_bundle
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer

PREFIXES = 300


async def check_served_as_measured(
    client: httpx.AsyncClient, predictor: Predictor, test: Sessions
) -> None:
    offline = evaluate(
        predictor, reindex(test, predictor.catalogue.item_ids), len(predictor.catalogue)
    )

    ranks = torch.tensor(await ranks_over_http(client, test))

    served = metrics_at(ranks, (20,))
    assert ranks.numel() == offline.cases
    for name in ("recall@20", "mrr@20"):
        assert f"{served[name]:.4f}" == f"{offline.metrics[name]:.4f}", name


async def test_what_is_measured_is_what_is_served(any_shop: TrainedShop, redis_url: str) -> None:
    test = prepare(ClickOptions(any_shop.clicks)).test

    app = create_app(Settings(bundle=any_shop.bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        await check_served_as_measured(client, open_predictor(any_shop.bundle), test)


def prefixes_of(sessions: Sessions, count: int) -> list[NDArray[np.int32]]:
    """Return the first prefixes of the sessions, in order."""
    found = [sessions[s][: n + 1] for s in range(len(sessions)) for n in range(len(sessions[s]))]
    return found[:count]


def assert_same_lists(
    first: Sequence[Sequence[str]],
    second: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
) -> None:
    """Check that the lists are identical where neighbouring scores differ by more than 1e-5."""
    for one, other, row in zip(first, second, scores, strict=True):
        gaps = np.abs(np.diff(np.array(row)))
        for place in range(len(one) - 1):
            clear = gaps[place] > 1e-5 and (place == 0 or gaps[place - 1] > 1e-5)
            assert not clear or one[place] == other[place], (place, one, other, row)


async def check_parity(
    eager: Predictor, bundle: Path, redis: str, test: Sessions, count: int = PREFIXES
) -> None:
    scripted = open_predictor(bundle)
    prefixes = prefixes_of(reindex(test, eager.catalogue.item_ids), count)
    ids = eager.catalogue.item_ids
    lists: dict[str, list[list[str]]] = {"eager": [], "scripted": [], "http": []}
    scores = []
    app = create_app(Settings(bundle=bundle, redis=redis, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        for prefix in prefixes:
            known = [item for item in prefix.tolist() if item >= 0]
            first = eager.recommend(known)
            scores.append(first.scores)
            lists["eager"].append([ids[item] for item in first.items])
            lists["scripted"].append([ids[item] for item in scripted.recommend(known).items])
            body = {"items": [ids[item] for item in known], "k": 20}
            answer = (await client.post("/v1/recommendations", json=body)).json()
            lists["http"].append([item["item_id"] for item in answer["items"]])
    assert_same_lists(lists["eager"], lists["scripted"], scores)
    assert_same_lists(lists["eager"], lists["http"], scores)


def trained_eagerly(
    options: ClickOptions, recipe: Recipe, folder: Path
) -> tuple[Predictor, Weights]:
    prepared = prepare(options)
    folder.mkdir()
    run = Trainer(recipe, folder, torch.device("cpu"), Quiet(), chooser_of(recipe))
    trained = run.train(prepared.train, None)
    weights, catalogue = trained.weights, trained.catalogue
    additions = trained.additions
    blend = blend_of(additions.blend, catalogue, prepared.train)
    golden = [[catalogue.item_ids[0]]]
    export = Export(weights, catalogue, recipe, {}, {}, golden, additions.repeats, blend)
    write_bundle(folder / "bundle", export)
    return eager_predictor(weights, catalogue, recipe, blend, additions.repeats), weights


@pytest.mark.parametrize(
    ("layers", "blend", "count"), [(1, "none", PREFIXES), (2, "none", 100), (1, "v-sknn", 100)]
)
async def test_eager_scripted_and_http_agree(
    trained: TrainedShop, redis_url: str, tmp_path: Path, layers: int, blend: str, count: int
) -> None:
    recipe = Recipe(hidden=24, layers=layers, epochs=1, batch=32, negatives=64, refit=False)
    if blend != "none":
        recipe = dataclasses.replace(recipe, blend=blend, blend_weight=0.4)
    options = ClickOptions(trained.clicks)
    eager, _ = trained_eagerly(options, recipe, tmp_path / "run")

    await check_parity(eager, tmp_path / "run" / "bundle", redis_url, prepare(options).test, count)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_model_is_served_as_it_is(
    trained: TrainedShop, model_kinds: ModelKinds, redis_url: str, kind: str
) -> None:
    test = prepare(ClickOptions(trained.clicks)).test

    await check_parity(model_kinds.eager(kind), model_kinds.bundle(kind), redis_url, test, count=30)


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("blend", ["none", "vstan"])
async def test_real_clicks_are_served_as_measured(
    real_data: Path, redis_url: str, tmp_path: Path, blend: str
) -> None:
    """After one epoch, the lists of 300 prefixes and both metrics agree."""
    options = ClickOptions(real_data / "yoochoose_sep14" / "sessions.parquet", split_column="split")
    recipe = load_recipe("default", ["epochs=1", "refit=false", "hidden=64", "negatives=512"])
    if blend != "none":
        recipe = dataclasses.replace(recipe, blend=blend, blend_weight=0.5)
    eager, _ = trained_eagerly(options, recipe, tmp_path / "run")
    bundle, test = tmp_path / "run" / "bundle", prepare(options).test

    await check_parity(eager, bundle, redis_url, test)
    app = create_app(Settings(bundle=bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        some = test.keep_sessions(np.arange(len(test)) < 400)
        await check_served_as_measured(client, open_predictor(bundle), some)
