"""Next clicks on new items, day by day: the model with trending counts beside the newest items.

    python tests/benchmarks/new_items_by_day.py --clicks F --items G --day 13 --day 14 --day 15 \
        --content category:categorical --content words --content created_at:time

Training and days are those of `trending.py days`, with the content of an items file. A new item has
no click in the training; one that is published after a request is no candidate of it. All items are
ranked, and the differences have paired 95 % intervals. The baselines know the same items:

    newest                  the items that were published last
    newest, same CATEGORY   those of the last click's category first; the first categorical column
    … or clicked            the same, where an item without a time of publication appears with the
                            first click of the log on it
    most clicked            the counts of the clicks before the request, without a model
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from data.click_options import ClickOptions
from data.content import ContentOptions, read_content
from data.items import ItemsTable, read_items
from data.prepare import read_sessions
from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import shares_by_place
from recsys.console import add_row, neat_table
from recsys.model.ranking import target_ranks
from recsys.predictor import Predictor
from tests.benchmarks.trending import Changes, ClickFile, RecipeName, days_of, trained
from training.evaluation.appearance import Appearance, appearance_of
from training.evaluation.evaluate import Scorer, in_chunks, scores_of
from training.evaluation.intervals import estimate, ratio, resampled_sums, session_sums
from training.evaluation.new_items import Newest
from training.evaluation.sample import sampled
from training.evaluation.trending import CountsOverTime, TrendingScorer, going_on
from training.trainer import FromScratch

CUTOFF = 20
SCORES_AT_ONCE = 1 << 20  # which stay in the processor's cache
MODEL = "counts go on"

Clicked = Sequence[NDArray[np.int32]]
ScoresAt = Callable[[Clicked, NDArray[np.int64]], Tensor]

console = Console(width=160)


def days(
    clicks: ClickFile,
    items: Annotated[Path, typer.Option(help="Items file.")],
    content: Annotated[list[str], typer.Option(help="Column of the items file, as in train.")],
    day: Annotated[list[int], typer.Option(help="Days to test on.")],
    train_days: Annotated[int, typer.Option(help="Days to train on, before each.")] = 3,
    recipe: RecipeName = "default",
    changes: Changes = None,
    cases: Annotated[int, typer.Option(help="About so many cases of a day; 0: all.")] = 0,
) -> None:
    """Train before each of these days and evaluate it."""
    sessions = read_sessions(ClickOptions(clicks)).sessions
    table = read_items(items, "item_id")
    for number in day:
        train, test = days_of(sessions, number, train_days)
        start = initialiser(table, content, train)
        predictor, summary = trained(train, recipe, changes or (), start)
        measure(f"day {number}", predictor, sessions, test, cases)
        console.print(f"{len(train.items):,} training clicks. {summary}\n")


def initialiser(table: ItemsTable, content: Sequence[str], train: Sessions) -> FromScratch:
    """Return the initialiser of `recsys train --items … --content …`."""
    read = read_content(table, "item_id", ContentOptions(tuple(content)))
    ids = list(dict.fromkeys([*train.item_ids, *read.ids.to_pylist()]))
    columns = table.attributes(ids, left_out=read.lists)
    texts = {name: dict(zip(ids, column, strict=True)) for name, column in columns.items()}
    return FromScratch(texts, read)


def measure(name: str, predictor: Predictor, log: Sessions, test: Sessions, cases: int) -> None:
    """Print recall@20 and MRR@20 of the model and the baselines, on new targets and on all.

    All sessions count clicks; a random sample of them is ranked.
    """
    tested, every = (reindex(part, predictor.catalogue.item_ids) for part in (test, log))
    rows = scorers(predictor, tested, every)
    ranked = ranks(predictor, sampled(tested, cases).sessions, rows)
    clicked = torch.from_numpy(predictor.catalogue.counts > 0)
    table = neat_table(
        f"{name}: recall@20 / MRR@20",
        left=["targets", "among", "scorer"],
        right=["cases", "recall", "MRR", "recall of the model less it", "MRR"],
    )
    is_new = ~clicked[ranked.targets.clamp(min=0)].numpy() & (ranked.targets >= 0).numpy()
    for targets, among, chosen in (
        ("new", "all", is_new),
        ("new", "new", is_new),
        ("with clicks", "all", ~is_new),
        ("all", "all", np.ones(len(is_new), dtype=bool)),
    ):
        model = ranked.ranks[MODEL, among][chosen]
        for scorer in rows:
            rank, session = ranked.ranks[scorer, among][chosen], ranked.session[chosen]
            figures = [float(metric(rank).mean()) for metric in (_hits, _reciprocal)]
            gains = [
                interval(metric(model) - metric(rank), session) for metric in (_hits, _reciprocal)
            ]
            shown = ["", ""] if scorer == MODEL else gains
            texts = [f"{len(rank):,}", *(f"{figure:.4f}" for figure in figures), *shown]
            add_row(table, targets, among, scorer, *texts)
    console.print(table)


def scorers(predictor: Predictor, tested: Sessions, log: Sessions) -> dict[str, ScoresAt]:
    """Return the recommenders.

    Args:
        predictor: The model.
        tested: Sessions whose clicks count from case to case, items as indices.
        log: All sessions, items as indices.
    """
    model, appearance = going_on(predictor, tested), appearance_of(predictor)
    found: dict[str, ScoresAt] = {
        MODEL: _of(model),
        "without counts": _of(predictor.with_recent(None)),
    }
    if isinstance(model, TrendingScorer):
        found["most clicked"] = _MostClicked(predictor, tested).scores_at
    assert appearance is not None, "the content has a time"
    assert predictor.content is not None, "there is content"
    fields = [f.name for f in predictor.content.schema.fields if f.kind == "categorical"]
    for same in (None, *fields[:1]):
        label = "newest" if same is None else f"newest, same {same}"
        found[label] = _of(Newest(predictor, appearance, same))
        seen = first_clicks(appearance, log)
        found[f"{label}, or clicked"] = _hiding(seen, Newest(predictor, seen, same))
    return found


def first_clicks(appearance: Appearance, log: Sessions) -> Appearance:
    """Return the times with those of first clicks where an item has none."""
    first = np.full(len(appearance.times_ms), np.iinfo(np.int64).max)
    known = log.items >= 0
    np.minimum.at(first, log.items[known], log.time_ms[known])
    lacks = appearance.times_ms == np.iinfo(np.int64).min
    return replace(appearance, times_ms=np.where(lacks, first, appearance.times_ms))


class _MostClicked:
    def __init__(self, predictor: Predictor, tested: Sessions) -> None:
        assert predictor.recent is not None
        self._counts = CountsOverTime(predictor.recent, tested)
        self._ties = torch.from_numpy(shares_by_place(predictor.catalogue.by_popularity) * 1e-6)

    def scores_at(self, clicked: Clicked, times_ms: NDArray[np.int64]) -> Tensor:
        counts = self._counts.at(times_ms)
        scores = self._ties.repeat(len(times_ms), 1)
        places = torch.from_numpy(counts.row_of_entry), torch.from_numpy(counts.items)
        scores[places] += torch.from_numpy(counts.scores.astype(np.float32))
        return scores


def _of(scorer: Scorer | TrendingScorer) -> ScoresAt:
    return lambda clicked, times_ms: scores_of(scorer, clicked, times_ms)


def _hiding(appearance: Appearance, scorer: Scorer) -> ScoresAt:
    def scores_at(clicked: Clicked, times_ms: NDArray[np.int64]) -> Tensor:
        scores = scorer.scores_along(clicked)
        appearance.hide(scores, times_ms)
        return scores

    return scores_at


@dataclass(frozen=True)
class Ranked:
    """Ranks of all cases, by recommender and by the items ranked: all, or the new ones."""

    session: NDArray[np.int32]  # (cases,)
    targets: Tensor  # (cases,)
    ranks: Mapping[tuple[str, str], NDArray[np.int64]]  # each (cases,)


@torch.inference_mode()
def ranks(predictor: Predictor, tested: Sessions, rows: Mapping[str, ScoresAt]) -> Ranked:
    """Return the ranks of the targets, conservative."""
    sessions = tested.keep_sessions(tested.lengths >= 2)
    targets = torch.from_numpy(sessions.next_clicks.astype(np.int64))
    is_old = torch.from_numpy(predictor.catalogue.counts > 0)
    appearance, moments = appearance_of(predictor), sessions.request_ms
    found = {(name, among): torch.zeros_like(targets) for name in rows for among in ("all", "new")}
    at_once = max(SCORES_AT_ONCE // len(is_old), 1)
    for chunk, cases in in_chunks(sessions, at_once, in_time=True):
        times_ms = moments[cases.numpy()]
        for name, scores_at in rows.items():
            scores = scores_at(chunk, times_ms)
            if appearance is not None:
                appearance.hide(scores, times_ms)
            found[name, "all"][cases] = target_ranks(scores, targets[cases])[0]
            new = ~is_old[targets[cases].clamp(min=0)]
            of_new = scores[new].masked_fill_(is_old, float("-inf"))
            found[name, "new"][cases[new]] = target_ranks(of_new, targets[cases[new]])[0]
    session = np.repeat(np.arange(len(sessions)), sessions.lengths - 1).astype(np.int32)
    return Ranked(session, targets, {key: rank.numpy() for key, rank in found.items()})


def _hits(rank: NDArray[np.int64]) -> NDArray[np.float64]:
    return (rank <= CUTOFF).astype(np.float64)


def _reciprocal(rank: NDArray[np.int64]) -> NDArray[np.float64]:
    return _hits(rank) / rank


def interval(gains: NDArray[np.float64], session: NDArray[np.int32]) -> str:
    """Return the mean gain with its interval, sessions resampled whole."""
    numbers = np.unique(session, return_inverse=True)[1].astype(np.int32)
    columns = [
        session_sums(part, numbers, int(numbers.max()) + 1) for part in (gains, gains * 0 + 1)
    ]
    sums = resampled_sums(np.stack(columns, axis=1))
    gain = estimate(float(gains.mean()), ratio(sums[:, 0], sums[:, 1]))
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


if __name__ == "__main__":
    typer.run(days)
