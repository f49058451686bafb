"""Recent popularity: chosen where items come and go, left out elsewhere, served as measured."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file

from data.batches.selection import Selection
from data.click_options import ClickOptions
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import NEWEST_CLICKS, WEIGHTS
from recsys.bundle.manifest import read_manifest
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BundleRefused
from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings
from recsys.predictor import Predictor
from tests.support.bundles.broken_bundles import sign
from tests.support.bundles.model_kinds import random_weights, recipe_of
from tests.support.bundles.trending_bundle import with_counts
from training.additions.cases import scored_cases
from training.additions.chooser import WITHOUT_SESSIONS, chooser_of
from training.additions.recent_popularity import (
    NO_GAIN,
    NO_TIMES,
    TOO_FEW,
    CountsThatGoOn,
    choose_recent,
    counts_at_end,
    has_real_times,
    recent_of,
)
from training.evaluation.compare import evaluate_with_baselines
from training.evaluation.evaluate import evaluate
from training.evaluation.trending import going_on
from training.finetune import FinetuneOptions, finetune
from training.model.weights import eager_predictor
from training.pipeline import TrainOptions, train
from training.recipe import Recipe

ITEMS = 200
IDS = tuple(f"i{item}" for item in range(ITEMS))
TINY = Recipe(hidden=8, epochs=1, batch=16, negatives=12, validation=0.1, blend="none")


def sessions_of(items: NDArray[np.int64], length: int = 4) -> Sessions:
    """Return sessions of this length, a minute apart."""
    count = len(items) // length
    times = np.repeat(np.arange(count) * 60_000, length)
    offsets = np.arange(count + 1) * length
    return Sessions(items.astype(np.int32), times, offsets, IDS)


def news(seed: int, sessions: int, *, newest_only: bool = False) -> Sessions:
    """Return sessions whose items are replaced as time goes on, ten at a time."""
    random = np.random.default_rng(seed)
    first = np.linspace(0, ITEMS - 10, sessions).astype(np.int64)
    if newest_only:
        first[:] = ITEMS - 10
    return sessions_of(np.repeat(first, 4) + random.integers(0, 10, sessions * 4))


def untrained() -> Predictor:
    recipe = recipe_of("gru shared")
    return eager_predictor(random_weights(recipe, ITEMS), Catalogue(IDS, np.full(ITEMS, 5)), recipe)


def test_it_is_chosen_where_items_come_and_go() -> None:
    chosen = choose_recent(untrained(), news(1, 2500), news(2, 100, newest_only=True))

    assert chosen.settings == RecentPopularitySettings(0.5, 10_000 // 8)
    assert "the newest 1,250 clicks count, with strength 0.5" in chosen.summary


def test_it_is_left_out_where_every_item_is_as_popular_as_before() -> None:
    random = np.random.default_rng(3)
    stationary = sessions_of(random.integers(0, ITEMS, 10_000))

    chosen = choose_recent(untrained(), stationary, sessions_of(random.integers(0, ITEMS, 400)))

    assert (chosen.settings, chosen.summary) == (None, f"{NO_GAIN}; {NO_TIMES}")


def trends(seed: int, sessions: int, first_ms: int = 0) -> Sessions:
    """Return sessions that run at the same time, whose items change every 1,000 seconds."""
    random = np.random.default_rng(seed)
    start_ms = first_ms + 10_000 * np.arange(sessions)
    kind = start_ms // 1_000_000 * 37 % (ITEMS // 10)  # of the ten items that are clicked
    items = np.repeat(10 * kind, 4) + random.integers(0, 10, 4 * sessions)
    time_ms = np.repeat(start_ms, 4) + 30_000 * np.tile(np.arange(4), sessions)
    return dataclasses.replace(sessions_of(items), time_ms=time_ms)


def test_counts_that_go_on_are_chosen_where_items_change_within_the_hour() -> None:
    chosen = choose_recent(untrained(), trends(1, 2500), trends(2, 500, 25_000_000))

    assert chosen.settings == RecentPopularitySettings(3.0, half_life_seconds=60)
    assert "a click counts half after a minute, and the service counts on" in chosen.summary


def test_without_real_times_counts_do_not_go_on() -> None:
    """The same clicks in the same order, of sessions one after the other."""
    train, valid = trends(1, 2500), trends(2, 500, 25_000_000)
    ordered = [
        dataclasses.replace(part, time_ms=part.time_ms.min() + np.arange(len(part.items)))
        for part in (train, valid)
    ]

    chosen = choose_recent(untrained(), *ordered)

    assert has_real_times(valid)
    assert not has_real_times(ordered[1])
    assert chosen.settings is None or chosen.settings.half_life_seconds is None
    assert chosen.summary.endswith(NO_TIMES)


def test_the_choice_ranks_as_the_evaluation_does() -> None:
    """The first clicks of some sessions are unknown: their list is that of popular items."""
    train, valid = trends(1, 50), trends(2, 50, 500_000)
    valid.items[::9] = ITEMS
    valid = dataclasses.replace(valid, item_ids=(*IDS, "unknown"))
    predictor, known = untrained(), reindex(valid, IDS)
    ranking = CountsThatGoOn(300, predictor.catalogue, train, known)

    for settings, ranks in zip(
        ranking.settings,
        np.concatenate(
            [ranking.ranks(part) for part in scored_cases(predictor, valid, with_unknown=True)],
            axis=1,
        ),
        strict=True,
    ):
        served = predictor.with_recent(counts_at_end(settings, train))
        evaluation = evaluate(going_on(served, known), known, ITEMS)
        assert sorted(ranks.tolist()) == sorted(evaluation.ranked.rank.tolist())


def test_a_small_log_has_too_few_clicks_to_count() -> None:
    """An eighth of 7,996 clicks is below the 1,000 that are counted at least."""
    chosen = choose_recent(untrained(), news(1, 1999), news(2, 100, newest_only=True))

    assert (chosen.settings, chosen.summary) == (None, TOO_FEW)


def test_cases_without_a_known_click_decide_too() -> None:
    """Their list is that of popular items: it is wrong without the newest clicks, right with."""
    newest = news(2, 100, newest_only=True).items[:100]
    items = np.stack([np.full(100, ITEMS), newest], axis=1).ravel()
    unknown_first = dataclasses.replace(sessions_of(items, 2), item_ids=(*IDS, "unknown"))

    chosen = choose_recent(untrained(), news(1, 2500), unknown_first)

    assert chosen.settings == RecentPopularitySettings(0.0, 10_000 // 8)
    assert "recall@20 0.0000 -> 0.2500" in chosen.summary


def test_only_the_newest_sessions_and_items_of_the_catalogue_count() -> None:
    """Two sessions of four clicks are more than five clicks, so one counts."""
    train = sessions_of(np.array([0, 1, 2, 3, 3, 3, 4, 5]))

    recent = recent_of(
        RecentPopularitySettings(1.0, 5), Catalogue(("i3", "i9", "i4"), np.ones(3, int)), train
    )

    assert recent is not None
    assert recent.newest.tolist() == [2, 0, 1]


def test_without_validation_sessions_a_continued_bundle_keeps_its_numbers() -> None:
    recipe = dataclasses.replace(TINY, validation=0.0)
    numbers = RecentPopularitySettings(0.5, 77)
    choose, train = chooser_of(recipe), Selection(news(1, 30))

    alone = choose(untrained(), train, None)
    kept = chooser_of(recipe, dataclasses.replace(alone, recent=numbers))(untrained(), train, None)

    assert (alone.recent, alone.recent_summary) == (None, WITHOUT_SESSIONS)
    assert kept.recent == numbers


def test_the_recipe_can_do_without() -> None:
    recipe = dataclasses.replace(TINY, recent_popularity="none", repeats="none")

    train, valid = Selection(news(1, 2500)), news(2, 100, newest_only=True)
    additions = chooser_of(recipe)(untrained(), train, valid)

    assert (additions.recent, additions.recent_summary) == (None, "none")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with recent popularity, trained on a log of news."""
    folder = tmp_path_factory.mktemp("news")
    log = news(1, 3200)
    pd.DataFrame(
        {
            "session_id": log.session_of_click,
            "item_id": [IDS[item] for item in log.items.tolist()],
            "timestamp": log.time_ms // 1000,
        }
    ).to_csv(folder / "news.csv", index=False)
    options = TrainOptions(ClickOptions(folder / "news.csv"), folder / "bundle", TINY)
    return train(options, Console(quiet=True))


def test_a_bundle_serves_the_newest_items_to_sessions_without_a_known_click(bundle: Path) -> None:
    predictor, manifest = open_predictor(bundle), read_manifest(bundle)

    popular = predictor.recommend([])

    assert manifest.recent_popularity is not None
    newest = load_file(bundle / WEIGHTS)[NEWEST_CLICKS]
    best = sorted(range(len(newest)), key=lambda item: (-newest[item].item(), item))[:20]
    by_clicks = predictor.catalogue.by_popularity[:20].tolist()
    assert newest[popular.items].tolist() == newest[best].tolist()
    assert newest[popular.items].sum() > newest[by_clicks].sum()


def test_scores_have_the_term(bundle: Path) -> None:
    predictor = open_predictor(bundle)
    assert predictor.recent is not None
    clicks = [np.array([3, 5], dtype=np.int32)]

    served, alone = (p.scores_along(clicks) for p in (predictor, predictor.with_recent(None)))

    torch.testing.assert_close(served[0], alone[0] + predictor.recent.term, atol=1e-5, rtol=0)


def test_the_report_has_a_row_without_it(bundle: Path) -> None:
    predictor = open_predictor(bundle).with_repeats(None)
    test = news(5, 300)

    results = evaluate_with_baselines(
        predictor, predictor.catalogue, news(1, 300), test, Console(quiet=True)
    ).results

    assert results["model alone"].metrics != results["model"].metrics


def test_finetuning_counts_the_new_clicks(bundle: Path, tmp_path: Path) -> None:
    options = FinetuneOptions(bundle, ClickOptions(bundle.parent / "news.csv"), tmp_path / "next")

    finetune(options, Console(quiet=True))

    old, new = read_manifest(bundle), read_manifest(tmp_path / "next")
    assert new.recent_popularity == old.recent_popularity
    assert open_predictor(tmp_path / "next").recent is not None


@pytest.mark.parametrize("damage", ["missing", "negative", "too many", "float"])
def test_damaged_newest_clicks_are_refused(bundle: Path, tmp_path: Path, damage: str) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in bundle.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    tensors = load_file(copied / WEIGHTS)
    newest = tensors.pop(NEWEST_CLICKS)
    if damage == "negative":
        newest[0] = -1
    if damage == "too many":
        newest[0] += 1_000_000
    if damage != "missing":
        tensors[NEWEST_CLICKS] = newest.float() if damage == "float" else newest
    save_file(tensors, copied / WEIGHTS)
    sign(copied)

    with pytest.raises(BundleRefused, match=r": newest_clicks must be|cannot be read"):
        open_predictor(copied)


@pytest.mark.parametrize("count", [-1.0, 1 / 65, math.nan, math.inf])
def test_damaged_counts_that_go_on_are_refused(bundle: Path, tmp_path: Path, count: float) -> None:
    items = len(open_predictor(bundle).catalogue)
    settings = RecentPopularitySettings(0.5, half_life_seconds=60)
    copied = with_counts(bundle, tmp_path / "copied", RecentPopularity(np.zeros(items), settings))
    assert open_predictor(copied).recent is not None
    tensors = load_file(copied / WEIGHTS)
    tensors[NEWEST_CLICKS][0] = count
    save_file(tensors, copied / WEIGHTS)
    sign(copied)

    with pytest.raises(BundleRefused, match="newest_clicks must be float64"):
        open_predictor(copied)
