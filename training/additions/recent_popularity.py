"""Recent popularity: choose its two numbers on validation sessions, or leave it out.

The formula is in `recsys/model/recent_popularity.py`. Numbers that are chosen on one half of the
validation sessions are measured on the other half. Popularity is used where it gains more than two
standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

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
    choices = [RecentPopularitySettings(s, newest) for newest, s in product(counted, STRENGTHS)]
    tried = [_recent(settings, catalogue, train) for settings in choices]
    scored = scored_cases(predictor, valid, CASES, with_unknown=True) if tried else ()
    parts = [_RankedCases.of(cases, tried, catalogue) for cases in scored]
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
    chosen = choices[int(gained.mean(axis=1).argmax())]
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
    return None if settings is None else _recent(settings, catalogue, train)


def _recent(
    settings: RecentPopularitySettings, catalogue: Catalogue, train: Sessions | Selection
) -> RecentPopularity:
    sessions = newest(Selection.of(train), settings.clicks)
    counts = np.bincount(sessions.items[-settings.clicks :], minlength=len(train.item_ids))
    codes = np.flatnonzero(counts)
    found = catalogue.find_all([train.item_ids[code] for code in codes.tolist()])
    clicks = np.zeros(len(catalogue), dtype=np.int64)
    clicks[found[found >= 0]] = counts[codes[found >= 0]]
    return RecentPopularity(clicks, settings)


@dataclass(frozen=True)
class _RankedCases:
    """Some validation cases, and the ranks of their targets without popularity and with each."""

    session: NDArray[np.int64]  # (cases,)
    ranks: NDArray[np.int64]  # (1 + popularities, cases)

    @classmethod
    def of(
        cls, cases: ScoredCases, tried: Sequence[RecentPopularity], catalogue: Catalogue
    ) -> "_RankedCases":
        target = np.maximum(cases.target, 0)
        column = torch.from_numpy(target).unsqueeze(1)
        is_known = cases.windows.lengths > 0  # the others get the list of popular items

        def ranks(
            term: torch.Tensor | float, by_popularity: NDArray[np.int32]
        ) -> NDArray[np.int64]:
            scores = cases.scores + term
            above = (scores >= scores.gather(1, column)).sum(dim=1).numpy()
            place = np.empty(len(catalogue), dtype=np.int64)
            place[by_popularity] = np.arange(1, len(catalogue) + 1)
            ranked = np.where(is_known, above, place[target])
            return np.where(cases.target >= 0, ranked, UNRANKED)

        popular = catalogue.by_popularity
        rows = [ranks(0.0, popular)] + [ranks(one.term, one.order(popular)) for one in tried]
        return cls(cases.session, np.stack(rows))
