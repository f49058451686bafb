"""Gain of counts that go on, day by day: train before a day, evaluate that day. Their costs.

    python tests/benchmarks/trending.py days --clicks F --day 12 --day 13 --day 14 --train-days 3
    python tests/benchmarks/trending.py split --clicks F --split-column split
    python tests/benchmarks/trending.py costs --items 1000000
    python tests/benchmarks/trending.py exchanges

For each day the recipe is trained on the days before it, with its validation sessions and additions
as in `recsys train`. The sessions that start on the day are ranked with counts that go on from
click to click, with the counts of the end of training, and without counts. The differences have
paired 95 % intervals. Days are of 24 hours from the first click, the first has number 0. Where
trending is not chosen, `--half-life-hours` and `--strength` measure it all the same.

`costs` takes random item vectors, a list made in advance for each item, and 1,000 counted items. It
prints the processor time of one list without and with counts, in turns, and that of new counts.
`exchanges` fills the counters of a private Redis and prints what an exchange takes.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import redis as redis_py
import torch
import typer
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import prepare, read_sessions
from data.sessions import Sessions, reindex
from data.split import DAY_MS
from recsys.catalogue.catalogue import Catalogue
from recsys.console import add_row, neat_table
from recsys.model.gru4rec import ModelSize, SessionRNN
from recsys.model.recent_popularity import (
    MOST_COUNTED,
    RecentPopularity,
    RecentPopularitySettings,
)
from recsys.predictor import Predictor
from recsys.retrieval.candidates import IndexSettings, with_bias
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import Reranked
from service.server.embedded_redis import private_redis
from service.trending.counters import KEPT, Counters, RedisCounters
from service.trending.trending import with_counters
from tests.benchmarks.bundle_accuracy import METRICS, paired
from tests.support.redis.stores import redis_client_for
from training.additions.blend import blend_of
from training.additions.chooser import chooser_of
from training.additions.recent_popularity import recent_of
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.trending import going_on
from training.model.weights import eager_predictor
from training.progress import TrainingBars
from training.recipe import load_recipe
from training.trainer import FromScratch, Trainer

ClickFile = Annotated[Path, typer.Option(help="Click log.")]
RecipeName = Annotated[str, typer.Option(help="Recipe.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="name=value over the recipe.")]
HalfLife = Annotated[float | None, typer.Option(help="Half-life that is used without a choice.")]
Strength = Annotated[float, typer.Option(help="Strength for that half-life.")]

HALF_LIFE_SECONDS = 900

app = typer.Typer(add_completion=False)
console = Console(width=140)


@app.command()
def days(
    clicks: ClickFile,
    day: Annotated[list[int], typer.Option(help="Days to test on.")],
    train_days: Annotated[int, typer.Option(help="Days to train on, before each.")] = 3,
    recipe: RecipeName = "default",
    changes: Changes = None,
    half_life_hours: HalfLife = None,
    strength: Strength = 0.2,
) -> None:
    """Train before each of these days and evaluate it."""
    sessions = read_sessions(ClickOptions(clicks)).sessions
    forced = forced_settings(half_life_hours, strength)
    for number in day:
        train, test = days_of(sessions, number, train_days)
        measure(f"day {number}", train, test, recipe, changes or (), forced)


@app.command()
def split(
    clicks: ClickFile,
    split_column: Annotated[str, typer.Option(help="Column of the split.")] = "split",
    recipe: RecipeName = "default",
    changes: Changes = None,
    half_life_hours: HalfLife = None,
    strength: Strength = 0.2,
) -> None:
    """Train on the training part of a split and evaluate its test part."""
    prepared = prepare(ClickOptions(clicks, split_column=split_column))
    forced = forced_settings(half_life_hours, strength)
    measure(clicks.parent.name, prepared.train, prepared.test, recipe, changes or (), forced)


@app.command()
def costs(
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 1_000_000,
    hidden: Annotated[int, typer.Option(help="Numbers of an item vector.")] = 128,
    rounds: Annotated[int, typer.Option(help="Lists, each without and with counts.")] = 1000,
) -> None:
    """Print what counts cost a request, and what new counts cost a process."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    random = np.random.default_rng(1)
    plain = random_predictor(items, hidden, random)
    settings = RecentPopularitySettings(0.8, half_life_seconds=HALF_LIFE_SECONDS)
    empty = plain.with_counts(RecentPopularity(np.zeros(items), settings))
    counted = random.choice(items, MOST_COUNTED, replace=False)
    ids = plain.catalogue.item_ids.take(counted.tolist())
    clicks_of = (1000 / np.arange(1, 1 + MOST_COUNTED)).tolist()
    counters = Counters(0, dict(zip(ids, clicks_of, strict=True)))
    renewing = [thread_ms(lambda: with_counters(empty, counters)) for _ in range(20)]
    trending = with_counters(empty, counters)
    times: dict[str, list[float]] = {"without counts": [], "with counts": []}
    clicks = random.integers(0, items, rounds).tolist()
    turns = [("without counts", plain), ("with counts", trending)]
    for click in clicks:
        for name, one in turns:
            times[name].append(thread_ms(partial(one.recommend, [click])))
        turns.reverse()  # the second of a click finds its item vectors in the cache
    table = neat_table(f"{items:,} items", left=["milliseconds"], right=["p50", "p90", "p99"])
    for name, values in {**times, "new counts": renewing}.items():
        quantiles = np.percentile(values, (50, 90, 99))
        add_row(table, name, *(f"{value:.3f}" for value in quantiles))
    console.print(table)


@app.command()
def exchanges(
    clicked: Annotated[int, typer.Option(help="Items with new clicks in an exchange.")] = 500,
    rounds: Annotated[int, typer.Option(help="Exchanges that are measured.")] = 50,
) -> None:
    """Print what an exchange with full counters takes, and their memory."""
    with private_redis() as url, redis_py.Redis.from_url(url) as redis:
        times = asyncio.run(exchange_times(url, redis, clicked, rounds))
        in_redis = redis.info("commandstats")["cmdstat_evalsha"]["usec_per_call"] / 1000
        key = f"recsys:{{trending}}:{HALF_LIFE_SECONDS}"
        console.print(
            f"{redis.zcard(key):,} counters, {redis.memory_usage(key):,} bytes; an exchange takes "
            f"{np.median(times):.2f} ms of the process (median) and {in_redis:.2f} ms of Redis "
            "(mean, waiting for the processor included)."
        )


async def exchange_times(url: str, redis: redis_py.Redis, clicked: int, rounds: int) -> list[float]:
    """Fill the counters; return the milliseconds of processor time of each exchange after that."""
    client, random, times = redis_client_for(url), np.random.default_rng(1), []
    counters = RedisCounters(client)

    def clicks(count: int) -> dict[str, int]:
        return {f"item-{item}": 1 for item in random.integers(0, 1_000_000, count).tolist()}

    for _ in range(KEPT // 1000 + 5):
        await counters.exchange(HALF_LIFE_SECONDS, clicks(1000), lambda: Counters(0, {}))
    redis.config_resetstat()
    for _ in range(rounds):
        began, new = time.thread_time(), clicks(clicked)
        await counters.exchange(HALF_LIFE_SECONDS, new, lambda: Counters(0, {}))
        times.append((time.thread_time() - began) * 1000)
    await client.close()
    return times


def random_predictor(items: int, hidden: int, random: np.random.Generator) -> Predictor:
    """Return a predictor of random weights with an index of random lists."""
    model = SessionRNN(ModelSize(items, hidden))
    matrix = torch.from_numpy(random.standard_normal((items, hidden), dtype=np.float32))
    bias, common = torch.zeros(items), np.sort(random.choice(items, 2048, replace=False))
    lists = random.integers(0, items, (items, 64), dtype=np.int32)
    index = ItemLists(
        torch.from_numpy(lists),
        torch.from_numpy(common.astype(np.int32)),
        torch.from_numpy(with_bias(matrix.numpy()[common], 0.0)),
        IndexSettings("lists", 1.0, probes=2),
    )
    catalogue = Catalogue((f"item-{item}" for item in range(items)), np.ones(items, dtype=np.int64))
    predictor = Predictor(model, matrix, bias, catalogue, layers=1, state_width=hidden, window=50)
    return predictor.with_retrieval(Reranked(index, predictor.exact_retrieval, 0.0))


def thread_ms(call: Callable[[], object]) -> float:
    """Return the processor time that a call takes in this thread, in milliseconds."""
    began = time.thread_time()
    call()
    return (time.thread_time() - began) * 1000


def days_of(sessions: Sessions, number: int, train_days: int) -> tuple[Sessions, Sessions]:
    """Return the training sessions of the days before a day, and the sessions of the day."""
    cut = int(sessions.time_ms.min()) + number * DAY_MS
    started = sessions.starts_ms
    earlier = sessions.keep_sessions((started >= cut - train_days * DAY_MS) & (started < cut))
    before = earlier.keep_clicks(earlier.time_ms < cut)
    test = sessions.keep_sessions((started >= cut) & (started < cut + DAY_MS))
    return before.keep_sessions(before.lengths >= 2), test


def forced_settings(
    half_life_hours: float | None, strength: float
) -> RecentPopularitySettings | None:
    if half_life_hours is None:
        return None
    return RecentPopularitySettings(strength, half_life_seconds=round(3600 * half_life_hours))


def measure(
    name: str,
    train: Sessions,
    test: Sessions,
    recipe: str,
    changes: Sequence[str],
    forced: RecentPopularitySettings | None,
) -> None:
    """Train, choose the additions, and print the accuracy with and without them."""
    predictor, summary = trained(train, recipe, changes)
    if forced is not None:
        predictor = predictor.with_recent(recent_of(forced, predictor.catalogue, train))
    tested = reindex(test, predictor.catalogue.item_ids)
    scorers = {
        "counts go on": going_on(predictor, tested),
        "counts of training": predictor,
        "without counts": predictor.with_recent(None),
    }
    results: dict[str, Evaluation] = {}
    table = neat_table(name, left=["scorer"], right=[*METRICS, "less it", *METRICS])
    for scorer, one in scorers.items():
        results[scorer] = evaluate(one, tested, len(predictor.catalogue))
        figures = [f"{results[scorer].metrics[metric]:.4f}" for metric in METRICS]
        add_row(table, scorer, *figures, "", *paired(results["counts go on"], results[scorer]))
    first = results["counts go on"]
    console.print(table)
    console.print(
        f"{len(train.items):,} training clicks, {first.cases:,} cases, {first.unseen_targets:,} "
        f"targets unseen. {summary}\n"
    )


def trained(
    train: Sessions, name: str, changes: Sequence[str], initialiser: FromScratch | None = None
) -> tuple[Predictor, str]:
    """Return the predictor that `recsys train` exports, and sentences on its additions."""
    recipe = load_recipe(name, changes)
    with tempfile.TemporaryDirectory() as folder, TrainingBars(console) as bars:
        trainer = Trainer(
            recipe,
            Path(folder),
            torch.device("cpu"),
            bars,
            choose_additions=chooser_of(recipe),
        )
        result = trainer.train(train, None, initialiser)
    additions, catalogue = result.additions, result.catalogue
    blend = blend_of(additions.blend, catalogue, train)
    recent = recent_of(additions.recent, catalogue, train)
    weights = result.weights.with_new_items(additions.new_items)
    predictor = eager_predictor(weights, catalogue, recipe, blend, additions.repeats, recent)
    return predictor, f"{additions.recent_summary}. New items: {additions.new_items_summary}"


if __name__ == "__main__":
    app()
