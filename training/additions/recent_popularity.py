"""Recent popularity: choose its numbers on validation sessions, or leave it out.

The formula is in `recsys/model/recent_popularity.py`. Numbers that are chosen on one half of the
validation sessions are measured on the other half. Counts at the end of training are used where
they gain more than two standard errors. Counts that go on are used where they gain more than two
standard errors beyond them; they are measured click by click, with earlier clicks only, and only
where the times of the log are those of its clicks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches.selection import Selection
from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import UNRANKED
from recsys.model.recent_popularity import SMOOTHING, RecentPopularity, RecentPopularitySettings
from recsys.predictor import Predictor
from recsys.ragged import ScoredRaggedArray
from training.additions.cases import ScoredCases, scored_cases
from training.additions.gain import gains, is_clear, metric_parts
from training.baselines.newest import NEIGHBOUR_CLICKS, newest
from training.evaluation.trending import CountsOverTime

CASES = 4_000  # validation cases, which are enough to see a gain worth having
STRENGTHS = (0.0, 0.1, 0.5)
SHARES = (8, 64, 512)  # of the training clicks, the newest: 1/8, 1/64, 1/512
LEAST_CLICKS = 1_000  # counted; fewer say little
HALF_LIVES_SECONDS = (60, 300, 1800, 10_800, 86_400)
TRENDING_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
TOGETHER = 0.01  # of the sessions, at least, begin before the one before has ended
HALVES = 2  # of the validation sessions
TOO_FEW = "none, because there are too few sessions to choose it on"
NO_GAIN = "left out, because it does not gain more than two standard errors"
NO_TIMES = "not trending, because the log has no real times"
NOT_TRENDING = "not trending, because later clicks gain no more than two standard errors"

Clicks = NDArray[np.float64]
Ranks = NDArray[np.int64]  # (cases,) of the targets, 1 for the best


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
    real_times = has_real_times(valid)
    rankings: list[_Ranking] = [_FixedCounts.of(most, catalogue, train) for most in counted]
    if counted and real_times:
        before, after = (reindex(s, catalogue.item_ids) for s in (_newest(train), valid))
        rankings += [
            CountsThatGoOn(seconds, catalogue, before, after) for seconds in HALF_LIVES_SECONDS
        ]
    scored = scored_cases(predictor, valid, CASES, with_unknown=True, in_time=real_times)
    ranked = _RankedCases.of(catalogue, rankings, scored if counted else ())
    if not ranked.has_both_halves:
        return ChosenRecent(None, TOO_FEW)
    at_end = ranked.best(ranked.nothing, trending=False)
    best = None
    if real_times:
        best = ranked.best(ranked.nothing if at_end is None else at_end.ranks, trending=True)
    if best is not None:
        return ChosenRecent(best.settings, best.summary)
    why = NOT_TRENDING if real_times else NO_TIMES
    if at_end is None:
        return ChosenRecent(None, f"{NO_GAIN}; {why}")
    return ChosenRecent(at_end.settings, f"{at_end.summary}; {why}")


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
    if settings.clicks is not None:
        return RecentPopularity(_newest_clicks(settings.clicks, catalogue, train), settings)
    return counts_at_end(settings, reindex(_newest(train), catalogue.item_ids))


def _newest(train: Sessions | Selection) -> Sessions:
    """Return the newest training sessions, of as many clicks as are counted at most."""
    return newest(Selection.of(train), NEIGHBOUR_CLICKS)


def counts_at_end(settings: RecentPopularitySettings, sessions: Sessions) -> RecentPopularity:
    """Return the counts at the last click of the sessions; items are indices, -1 where unknown."""
    at_ms, before = int(sessions.time_ms.max()), int(sessions.time_ms.min())
    nothing = RecentPopularity(np.zeros(len(sessions.item_ids)), settings, before)
    counts = CountsOverTime(nothing, sessions).at(np.array([at_ms + 1]))
    found = np.zeros(len(sessions.item_ids))
    found[counts.items] = counts.scores
    return RecentPopularity(found, settings, at_ms + 1)


def has_real_times(sessions: Sessions) -> bool:
    """Return whether the times are those of clicks, and not just an order of them.

    Sessions of a shop run at the same time. Where times were made up to keep an order, or are days,
    no session begins before the one before it has ended.
    """
    ends_ms = sessions.time_ms[sessions.offsets[1:] - 1]
    together = np.count_nonzero(sessions.starts_ms[1:] < ends_ms[:-1])
    return bool(together > TOGETHER * len(sessions))


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


class _Ranking(Protocol):
    """Rankings of targets, one for each of some settings."""

    @property
    def settings(self) -> Sequence[RecentPopularitySettings]: ...
    def ranks(self, cases: ScoredCases) -> Ranks:
        """Return the ranks of the targets, (settings, cases)."""
        ...


class _FixedCounts:
    """Rankings with the same counts in all cases."""

    def __init__(self, recent: Sequence[RecentPopularity], catalogue: Catalogue) -> None:
        self.settings = [one.settings for one in recent]
        self._terms = [one.term if one.settings.strength > 0 else None for one in recent]
        order = recent[0].order(catalogue.by_popularity) if recent else catalogue.by_popularity
        self._places = _places(order)

    @classmethod
    def of(cls, most: int, catalogue: Catalogue, train: Sessions | Selection) -> "_FixedCounts":
        clicks = _newest_clicks(most, catalogue, train)
        settings = [RecentPopularitySettings(strength, most) for strength in STRENGTHS]
        return cls([RecentPopularity(clicks, one) for one in settings], catalogue)

    def ranks(self, cases: ScoredCases) -> Ranks:
        return np.stack([self._ranks(cases, term) for term in self._terms or [None]])

    def _ranks(self, cases: ScoredCases, term: Tensor | None) -> Ranks:
        target = np.maximum(cases.target, 0)
        scores = cases.scores if term is None else cases.scores + term
        in_scores = (scores >= scores.gather(1, torch.from_numpy(target)[:, None])).sum(dim=1)
        return _shown_ranks(cases, in_scores.numpy(), self._places[target])


class CountsThatGoOn:
    """Rankings with the counts at the time of each case, for one half-life."""

    def __init__(
        self, half_life_seconds: int, catalogue: Catalogue, train: Sessions, valid: Sessions
    ) -> None:
        """train, valid: Items as indices."""
        self.settings = [
            RecentPopularitySettings(strength, half_life_seconds=half_life_seconds)
            for strength in TRENDING_STRENGTHS
        ]
        self._counts = CountsOverTime(counts_at_end(self.settings[0], train), valid)
        self._places = _places(catalogue.by_popularity)

    def ranks(self, cases: ScoredCases) -> Ranks:
        counts, target = self._counts.at(cases.time_ms), np.maximum(cases.target, 0)
        of_target = np.zeros(len(target))
        is_target = counts.items == target[counts.row_of_entry]
        of_target[counts.row_of_entry[is_target]] = counts.scores[is_target]
        in_popular = self._in_popular(target, counts, of_target)
        return np.stack(
            [
                _shown_ranks(cases, _in_scores(cases, counts, of_target, one.strength), in_popular)
                for one in self.settings
            ]
        )

    def _in_popular(self, target: Ranks, counts: ScoredRaggedArray, of_target: Clicks) -> Ranks:
        """Return the places by counts; equal ones are in the order of the training clicks."""
        row, places = counts.row_of_entry, self._places
        ahead = places[counts.items] < places[target][row]
        equal = counts.scores == of_target[row]
        above = (counts.scores > of_target[row]) | (equal & ahead)
        moved = above.astype(np.int64) - (ahead & (of_target[row] == 0))
        begin = np.where(of_target > 0, 1, places[target])
        return begin + np.bincount(row, moved, minlength=len(target)).astype(np.int64)


def _in_scores(
    cases: ScoredCases, counts: ScoredRaggedArray, of_target: Clicks, strength: float
) -> Ranks:
    """Return the ranks by scores with the term of these counts.

    Args:
        cases: The cases.
        counts: Counts of some items of each case.
        of_target: (cases,) counts of the targets.
        strength: That of the term.
    """

    def term(clicks: Clicks) -> Tensor:
        return torch.from_numpy((strength * np.log1p(clicks / SMOOTHING)).astype(np.float32))

    target = torch.from_numpy(np.maximum(cases.target, 0))
    row, items = torch.from_numpy(counts.row_of_entry), torch.from_numpy(counts.items)
    least = cases.scores.gather(1, target[:, None]) + term(of_target)[:, None]
    plain, at_least = cases.scores[row, items], least[row, 0]
    moved = (plain + term(counts.scores) >= at_least).long() - (plain >= at_least).long()
    above = (cases.scores >= least).sum(dim=1)
    return above.index_add_(0, row, moved).numpy()


def _shown_ranks(cases: ScoredCases, in_scores: Ranks, in_popular: Ranks) -> Ranks:
    """Return the ranks in the lists of the cases: without a known click, in that of popular items.

    Args:
        cases: The cases.
        in_scores: (cases,) ranks by score.
        in_popular: (cases,) ranks among the popular items.
    """
    ranks = np.where(cases.windows.lengths > 0, in_scores, in_popular)
    return np.where(cases.target >= 0, ranks, UNRANKED)


@dataclass(frozen=True)
class _Best:
    """Settings with the highest gain, which is clear."""

    settings: RecentPopularitySettings
    ranks: Ranks  # with them
    summary: str


@dataclass(frozen=True)
class _RankedCases:
    """Ranks of the targets of validation cases."""

    session: NDArray[np.int64]  # (cases,)
    nothing: Ranks  # without recent popularity
    ranks: Mapping[RecentPopularitySettings, Ranks]

    @classmethod
    def of(
        cls, catalogue: Catalogue, rankings: Sequence[_Ranking], scored: Iterable[ScoredCases]
    ) -> "_RankedCases":
        settings = [one for ranking in rankings for one in ranking.settings]
        every: list[_Ranking] = [_FixedCounts([], catalogue), *rankings]
        session = [np.zeros(0, dtype=np.int64)]
        ranks = [np.zeros((1 + len(settings), 0), dtype=np.int64)]
        for cases in scored:
            session.append(cases.session)
            ranks.append(np.concatenate([ranking.ranks(cases) for ranking in every]))
        nothing, *others = np.concatenate(ranks, axis=1)
        return cls(np.concatenate(session), nothing, dict(zip(settings, others, strict=True)))

    @property
    def has_both_halves(self) -> bool:
        return len(np.unique(self.session % HALVES)) == HALVES

    def best(self, before: Ranks, *, trending: bool) -> _Best | None:
        """Return the best settings, if the gain over other ranks is clear.

        It is measured on the cases of one half of the sessions for the settings that are best on
        the other half.
        """
        choices = [one for one in self.ranks if (one.half_life_seconds is not None) == trending]
        ranks = np.stack([self.ranks[choice] for choice in choices])
        gained = np.stack([gains(one, before) for one in ranks])  # (choices, cases)
        at = np.empty(len(self.session), dtype=np.int64)  # choice made without its half
        for half in range(HALVES):
            own = self.session % HALVES == half
            at[own] = gained[:, ~own].mean(axis=1).argmax()
        every = np.arange(len(self.session))
        if not is_clear(gained[at, every], self.session):
            return None
        best = int(gained.mean(axis=1).argmax())
        return _Best(choices[best], ranks[best], _summary(choices[best], before, ranks[at, every]))


def _summary(settings: RecentPopularitySettings, before: Ranks, unseen: Ranks) -> str:
    (old_recall, old_mrr), (recall, mrr) = (metric_parts(r).mean(axis=1) for r in (before, unseen))
    if settings.half_life_seconds is None:
        counts = f"the newest {settings.clicks:,} clicks count"
    else:
        minutes = settings.half_life_seconds // 60
        after = "a minute" if minutes == 1 else f"{minutes} minutes"
        counts = f"a click counts half after {after}, and the service counts on"
    return (
        f"recall@20 {old_recall:.4f} -> {recall:.4f} and mrr@20 {old_mrr:.4f} -> {mrr:.4f} on "
        f"validation sessions that the choice did not see; {counts}, with strength "
        f"{settings.strength:g}"
    )
