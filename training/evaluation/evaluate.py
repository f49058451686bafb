"""Evaluation: rank every next click of every test session over all items.

Protocol (Hidasi and Czapp, arXiv:2307.14951): no sampling, whole sessions, true history. A case
is a click with at least one before it; its target is ranked among all items of the catalogue. A
target outside the catalogue is a miss and is counted. Where the content of a model names a time, an
item that appears after a click is no candidate of it. Ties are ranked conservatively: the target
stands behind its equals. Where that lowers a metric by more than 0.0005, the scores have collapsed
and a warning says so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions, coded
from recsys.errors import BadInput
from recsys.model.ranking import rows_at_once, target_ranks, top_k
from recsys.predictor import Predictor
from recsys.ragged import spread
from training.evaluation.appearance import Appearance, appearance_of
from training.evaluation.metrics import CUTOFFS, Coverage, metrics_at
from training.evaluation.popularity_backoff import BackoffRanks, PopularityBackoff
from training.evaluation.trending import TrendingScorer
from training.parallel.processes import ALONE, Processes

LIST_LENGTH = 20
TOLERATED_TIES = 0.0005  # a few accidental ties among float32 scores move a metric by less
SCORES_AT_ONCE = 8_000_000  # numbers held while ranking: 32 MB as float32
CASES_AT_ONCE = 1024  # of scorers that score a few items only

Progress = Callable[[int, int], None]  # (sessions done, sessions in all)


class Scorer(Protocol):
    """A recommender to evaluate: a baseline, or the predictor that serves a model."""

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Score all items after each click but the last of every session.

        Args:
            sessions: Item indices of each session, (clicks,) int32, -1 where unknown; for a
                predictor codes, below 0 where unknown.

        Returns:
            (cases, N) scores, session after session.
        """


@dataclass(frozen=True, slots=True)
class RankedCases:
    """Ranks of all cases, in the order of the clicks: (cases,) arrays."""

    session: NDArray[np.int32]  # 0, 1, … among the sessions that hold a case
    before: NDArray[np.int32]  # clicks of its session before the target, at least 1
    target: NDArray[np.int32]  # item index, -1 where the catalogue lacks it
    rank: NDArray[np.int32]  # of the target among all items, conservative
    event: NDArray[np.int8] | None = None  # type of the target; None where types do not count
    event_types: Sequence[str] = ()  # of the numbers 1, 2, …


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics and ranks of one recommender on one set of sessions."""

    metrics: dict[str, float]  # recall@k, mrr@k, ndcg@k, coverage@20
    cases: int
    unseen_targets: int
    ranked: RankedCases = field(repr=False, compare=False)
    warning: str | None = None


def evaluate(
    scorer: Scorer | TrendingScorer,
    sessions: Sessions,
    items: int,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Rank every next click and return the metrics.

    Args:
        scorer: The recommender. One whose counts go on ranks the sessions in order of time.
        sessions: Items as indices below `items`, -1 where the catalogue lacks one. Sessions of one
            click are left out.
        items: Size of the catalogue, N.
        progress: Called with (sessions done, sessions in all).
        processes: They share the sessions; each returns the whole result.

    Returns:
        recall@K, mrr@K, ndcg@K for K = 1, 5, 10, 20, coverage@20, and every rank.

    Raises:
        BadInput: No next click is on an item of the catalogue.
    """
    sessions = sessions.keep_sessions(sessions.lengths >= 2)
    targets = torch.from_numpy(sessions.next_clicks.astype(np.int64))
    if not (targets >= 0).any():
        what = f"has {targets.numel():,} next clicks, none on an item of the catalogue"
        if targets.numel() == 0:
            what = "has no session of at least 2 clicks"
        raise BadInput(
            "There is nothing to evaluate",
            [f"the test part {what}. Test on sessions of the shop that was trained on."],
        )
    model = _predictor_of(scorer)
    appearance = None if model is None else appearance_of(model)
    conservative, standard = torch.zeros_like(targets), torch.zeros_like(targets)
    coverage = Coverage(items, LIST_LENGTH)
    done = 0
    is_sparse, in_time = isinstance(scorer, PopularityBackoff), isinstance(scorer, TrendingScorer)
    at_once = CASES_AT_ONCE if is_sparse else rows_at_once(items, SCORES_AT_ONCE)
    if in_time:
        at_once = min(at_once, CASES_AT_ONCE)
    request_ms = sessions.request_ms
    read = sessions if model is None else coded(sessions, model.event_types)
    for number, (chunk, cases) in enumerate(in_chunks(read, at_once, in_time=in_time)):
        if number % processes.size == processes.rank:
            ranked = _ranked(scorer, appearance, chunk, targets[cases], request_ms[cases.numpy()])
            conservative[cases], standard[cases] = ranked.conservative, ranked.standard
            coverage.add(ranked.listed)
        done += len(chunk)
        if progress is not None:
            progress(done, len(sessions))
    processes.sum([conservative, standard, coverage.seen])
    return _evaluation(sessions, conservative, standard, coverage)


def in_chunks(
    sessions: Sessions, at_once: int, *, in_time: bool = False
) -> Iterator[tuple[list[NDArray[np.int32]], Tensor]]:
    """Yield sessions of similar length, and the numbers of their cases among all of `next_clicks`.

    Args:
        sessions: All sessions.
        at_once: Largest number of cases in a chunk; a longer session is a chunk of its own.
        in_time: Yield sessions in the order of their starts instead.
    """
    sorted_by = sessions.starts_ms if in_time else sessions.lengths
    order = np.argsort(sorted_by, kind="stable")  # similar lengths share a batch
    first_case = sessions.offsets[:-1] - np.arange(len(sessions))
    for chunk in _chunks(sessions.lengths[order], at_once):
        numbers = order[chunk]
        cases = spread(first_case[numbers], sessions.lengths[numbers] - 1)
        yield [sessions[s] for s in numbers.tolist()], torch.from_numpy(cases)


def scores_of(
    scorer: Scorer | TrendingScorer,
    sessions: Sequence[NDArray[np.int32]],
    times_ms: NDArray[np.int64],
) -> Tensor:
    """Return the scores of all items, (cases, N), for requests at these times, (cases,) int64."""
    if isinstance(scorer, TrendingScorer):
        return scorer.scores_at(sessions, times_ms)
    return scorer.scores_along(sessions)


def _predictor_of(scorer: Scorer | TrendingScorer) -> Predictor | None:
    """Return the model of a scorer that reads codes; None for one that reads items."""
    if isinstance(scorer, TrendingScorer):
        return scorer.predictor
    return scorer if isinstance(scorer, Predictor) else None


def _ranked(
    scorer: Scorer | TrendingScorer,
    appearance: Appearance | None,
    sessions: Sequence[NDArray[np.int32]],
    targets: Tensor,
    times_ms: NDArray[np.int64],
) -> BackoffRanks:
    if isinstance(scorer, PopularityBackoff):
        return scorer.ranked_along(sessions, targets, LIST_LENGTH)
    scores, model = scores_of(scorer, sessions, times_ms), _predictor_of(scorer)
    if appearance is not None:
        appearance.hide(scores, times_ms)
    if model is not None:
        model.exclude_along(scores, sessions)
    return BackoffRanks(*target_ranks(scores, targets), top_k(scores, LIST_LENGTH)[1])


def _evaluation(
    sessions: Sessions, conservative: Tensor, standard: Tensor, coverage: Coverage
) -> Evaluation:
    metrics = metrics_at(conservative, CUTOFFS)
    optimistic = metrics_at(standard, CUTOFFS)
    affected = [name for name, low in metrics.items() if optimistic[name] - low > TOLERATED_TIES]
    warning = None
    if affected:
        warning = (
            f"Scores tie: {', '.join(affected)} depend on how ties are ranked ({affected[-1]} is "
            f"{metrics[affected[-1]]:.4f} with the target last of its equals, "
            f"{optimistic[affected[-1]]:.4f} with it first). The model's scores have collapsed."
        )
    metrics[f"coverage@{coverage.k}"] = coverage.share()
    ranked = _ranked_cases(sessions, conservative)
    unseen = int((ranked.target < 0).sum())
    return Evaluation(metrics, len(ranked.target), unseen, ranked, warning)


def _ranked_cases(sessions: Sessions, ranks: Tensor) -> RankedCases:
    session = sessions.session_of_click
    before = np.arange(len(session)) - sessions.offsets[session]
    case = before > 0
    return RankedCases(
        session=session[case].astype(np.int32),
        before=before[case].astype(np.int32),
        target=sessions.next_clicks,
        rank=ranks.numpy().astype(np.int32),
        event=sessions.next_events,
        event_types=sessions.event_types,
    )


def _chunks(lengths: NDArray[np.int64], limit: int) -> list[slice]:
    """Cut sessions into runs of at most `limit` cases; a longer session is a run of its own."""
    chunks, start, cases = [], 0, 0
    for at, length in enumerate(lengths.tolist()):
        if cases and cases + length - 1 > limit:
            chunks.append(slice(start, at))
            start, cases = at, 0
        cases += length - 1
    chunks.append(slice(start, len(lengths)))
    return chunks
