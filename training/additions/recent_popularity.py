"""Recent popularity: choose its two numbers on validation sessions, or leave it out.

The formula is in `recsys/model/recent_popularity.py`. Numbers that are chosen on one half of the
validation sessions are measured on the other half. Popularity is used where it gains more than two
standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import UNRANKED
from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings
from recsys.predictor import Predictor
from training.additions.cases import ScoredCases, scored_cases
from training.additions.gain import gains, is_clear, metric_parts
from training.baselines.newest import newest

CASES = 4_000  # validation cases, which are enough to see a gain worth having
STRENGTHS = (0.0, 0.1, 0.5)
SHARES = (8, 64, 512)  # of the training clicks, the newest: 1/8, 1/64, 1/512
LEAST_CLICKS = 1_000  # counted; fewer say little
HALVES = 2  # of the validation sessions
TOO_FEW = "none, because there are too few sessions to choose it on"
NO_GAIN = "left out, because it does not gain more than two standard errors"


@dataclass(frozen=True, slots=True)
class ChosenRecent:
    """Chosen numbers, None where recent popularity does not help, with a sentence about them."""

    settings: RecentPopularitySettings | None
    summary: str


def choose_recent(
    predictor: Predictor, train: Sessions | Selection, valid: Sessions
) -> ChosenRecent:
    """Choose the numbers, or none.

    Args:
        predictor: Predictor trained on `train`, without additions.
        train: Its sessions, items as codes of their log, in the order of time.
        valid: Sessions to choose on, which come after them.
    """
    catalogue, clicks = predictor.catalogue, Selection.of(train).clicks
    counted = [clicks // share for share in SHARES if clicks // share >= LEAST_CLICKS]
    choices = [
        RecentPopularity(newest_clicks, RecentPopularitySettings(strength, most))
        for most in counted
        for newest_clicks in [_newest_clicks(most, catalogue, train)]
        for strength in STRENGTHS
    ]
    rankings = [_Ranking(None, _places(catalogue.by_popularity))]
    rankings += [_Ranking.of(choice, catalogue) for choice in choices]
    scored = scored_cases(predictor, valid, CASES, with_unknown=True) if choices else ()
    parts = [_RankedCases.of(cases, rankings) for cases in scored]
    if not parts:
        return ChosenRecent(None, TOO_FEW)
    session = np.concatenate([part.session for part in parts])
    before, *after = np.concatenate([part.ranks for part in parts], axis=1)
    gained = np.stack([gains(ranks, before) for ranks in after])  # (choices, cases)
    at = np.empty(len(session), dtype=np.int64)  # choice for each case, made without its half
    for half in range(HALVES):
        own = session % HALVES == half
        if own.all() or not own.any():
            return ChosenRecent(None, TOO_FEW)
        at[own] = gained[:, ~own].mean(axis=1).argmax()
    every = np.arange(len(session))
    if not is_clear(gained[at, every], session):
        return ChosenRecent(None, NO_GAIN)
    chosen = choices[int(gained.mean(axis=1).argmax())].settings
    ranks = np.stack(after)[at, every]
    (old_recall, old_mrr), (recall, mrr) = (metric_parts(r).mean(axis=1) for r in (before, ranks))
    return ChosenRecent(
        chosen,
        f"recall@20 {old_recall:.4f} -> {recall:.4f} and mrr@20 {old_mrr:.4f} -> {mrr:.4f} on "
        "validation sessions that the choice did not see; the newest "
        f"{chosen.clicks:,} clicks count, with strength {chosen.strength:g}",
    )


def recent_of(
    settings: RecentPopularitySettings | None, catalogue: Catalogue, train: Sessions | Selection
) -> RecentPopularity | None:
    """Return the popularity of the catalogue's items at the end of training, None without settings.

    Args:
        settings: Its numbers.
        catalogue: N items.
        train: Sessions, items as codes of their log, in the order of time.
    """
    if settings is None:
        return None
    return RecentPopularity(_newest_clicks(settings.clicks, catalogue, train), settings)


def _newest_clicks(
    most: int, catalogue: Catalogue, train: Sessions | Selection
) -> NDArray[np.int64]:
    """Return the clicks of each item in the newest sessions, which have `most` clicks at most."""
    sessions = newest(Selection.of(train), most)
    counts = np.bincount(sessions.items[-most:], minlength=len(train.item_ids))
    codes = np.flatnonzero(counts)
    found = catalogue.find_all([train.item_ids[code] for code in codes.tolist()])
    clicks = np.zeros(len(catalogue), dtype=np.int64)
    clicks[found[found >= 0]] = counts[codes[found >= 0]]
    return clicks


def _places(order: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the place of each item, from 1; order: (N,) int32, all items."""
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(1, len(order) + 1)
    return places


@dataclass(frozen=True)
class _Ranking:
    """Ranking of targets: with a term, and by the popular items where no click is known."""

    term: Tensor | None  # (N,) float32; None adds nothing
    places: NDArray[np.int64]  # (N,) of the items among the popular ones

    @classmethod
    def of(cls, choice: RecentPopularity, catalogue: Catalogue) -> "_Ranking":
        term = choice.term if choice.settings.strength > 0 else None
        return cls(term, _places(choice.order(catalogue.by_popularity)))


@dataclass(frozen=True)
class _RankedCases:
    """Some validation cases, and the ranks of their targets in several rankings."""

    session: NDArray[np.int64]  # (cases,)
    ranks: NDArray[np.int64]  # (rankings, cases)

    @classmethod
    def of(cls, cases: ScoredCases, rankings: Sequence[_Ranking]) -> "_RankedCases":
        target = np.maximum(cases.target, 0)
        column = torch.from_numpy(target).unsqueeze(1)
        is_known = cases.windows.lengths > 0  # the others get the list of popular items

        def ranks(ranking: _Ranking) -> NDArray[np.int64]:
            scores = cases.scores if ranking.term is None else cases.scores + ranking.term
            in_scores = (scores >= scores.gather(1, column)).sum(dim=1).numpy()
            ranked = np.where(is_known, in_scores, ranking.places[target])
            return np.where(cases.target >= 0, ranked, UNRANKED)

        return cls(cases.session, np.stack([ranks(ranking) for ranking in rankings]))
