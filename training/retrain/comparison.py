"""Comparison of two bundles on the same cases, with the evaluation of `recsys evaluate`."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from data.prepare import Prepared
from data.sessions import Sessions, joined, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput
from recsys.model.ranking import UNRANKED
from recsys.predictor import Predictor
from training.baselines.popularity import Popularity
from training.evaluation.evaluate import RankedCases, Scorer, evaluate
from training.evaluation.sample import MAX_CASES, sampled
from training.evaluation.trending import TrendingScorer, going_on
from training.progress import bar
from training.retrain.gate import Verdict, judge


@dataclass(frozen=True)
class TestCases:
    """Sessions that no compared model has learned from, and all clicks that trending ones count."""

    __test__ = False  # pytest collects classes that begin with Test

    sessions: Sessions
    counted: Sessions
    seen_sessions: int  # of the test part, left out

    @classmethod
    def of(cls, prepared: Prepared, seen_until_ms: int, least_cases: int) -> "TestCases":
        """Return the test sessions that begin after the current model's last training click.

        Args:
            prepared: Training and test part.
            seen_until_ms: Time from which on a session is new to the current model.
            least_cases: Fewest next clicks.

        Raises:
            BadInput: There are fewer.
        """
        test = prepared.test
        unseen = test.starts_ms >= seen_until_ms
        fair = test.keep_sessions(unseen)
        seen, cases = int(np.count_nonzero(~unseen)), len(fair.items) - len(fair)
        if cases < least_cases:
            left_out = (
                f", without {seen:,} sessions that the current model has learned from"
                if seen
                else ""
            )
            raise BadInput(
                "The models cannot be compared",
                [
                    f"the tested days have {cases:,} next clicks{left_out}, and at least "
                    f"{least_cases:,} are needed. Wait for more clicks, or test on more days: "
                    "--test-days."
                ],
            )
        counted = joined([prepared.train, test])
        return cls(sampled(fair, MAX_CASES).sessions, counted, seen)

    def compare(
        self, candidate: Predictor, current: Predictor | None, margin: float, console: Console
    ) -> Verdict:
        """Return the verdict of the gate; without a current model, popularity must be beaten."""
        ours = self._ranked(self._scorer(candidate), candidate.catalogue, console, "the candidate")
        if current is None:
            popular = Popularity(candidate.catalogue)
            theirs = self._ranked(popular, candidate.catalogue, console, "the most popular items")
            return judge(ours, theirs, margin=0.0)
        tested = reindex(self.sessions, current.catalogue.item_ids)
        if (tested.next_clicks >= 0).any():
            scorer = self._scorer(current)
            theirs = self._ranked(scorer, current.catalogue, console, "the current model")
        else:  # it knows none of these items
            theirs = dataclasses.replace(ours, rank=np.full_like(ours.rank, UNRANKED))
        return judge(ours, theirs, margin)

    def _scorer(self, predictor: Predictor) -> Predictor | TrendingScorer:
        """Return the model as it would have been served at the time of the cases."""
        if predictor.recent is None or not predictor.recent.is_trending:
            return predictor
        # clicks up to the end of its training are in its own counts
        later = self.counted.keep_clicks(self.counted.time_ms >= predictor.recent.at_ms)
        return going_on(predictor, reindex(later, predictor.catalogue.item_ids))

    def _ranked(
        self, scorer: Scorer | TrendingScorer, catalogue: Catalogue, console: Console, what: str
    ) -> RankedCases:
        tested = reindex(self.sessions, catalogue.item_ids)
        with bar(console, f"Testing {what}", "sessions") as progress:
            return evaluate(scorer, tested, len(catalogue), progress).ranked
