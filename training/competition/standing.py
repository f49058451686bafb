"""Standing of a rival: its metrics on the validation sessions, beside those of the incumbent."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from data.sessions import Sessions
from recsys.console import add_row, neat_table
from training.evaluation.compare import case_values
from training.evaluation.intervals import ratio, resampled_sums, session_sums
from training.trainer import SearchProgress

# MRR@20 is about half of Recall@20, and so are its differences: both weigh about the same.
SCORE: Mapping[str, float] = {"recall@20": 1.0, "mrr@20": 2.0}
SCORE_NAME = "recall@20 + 2 mrr@20"
LEAST_SESSIONS = 20  # to validate on; the standard error over fewer of them says little


@dataclass(frozen=True, slots=True)
class Standing:
    """Metrics of a rival in its best epoch so far, and how it compares with the incumbent."""

    recipe: str  # name of the recipe
    epochs: int = 0  # of its search
    best_epoch: int = 0
    recall: float = 0.0  # recall@20
    mrr: float = 0.0  # mrr@20
    gain: float = 0.0  # score less that of the incumbent
    error: float = 0.0  # standard error of the gain, paired over sessions
    outcome: str = ""

    @property
    def is_better(self) -> bool:
        """Return whether the gain is more than its standard error."""
        return self.gain > self.error

    def ended(self, outcome: str) -> "Standing":
        """Return the standing with the way in which the rival left the competition."""
        return dataclasses.replace(self, outcome=outcome)


def judging_sessions(valid: Sessions | None) -> int:
    """Return how many of the validation sessions hold a case: a click and the next one."""
    return 0 if valid is None else int(np.count_nonzero(valid.lengths >= 2))


def standing(
    name: str, result: SearchProgress, incumbent: SearchProgress, valid: Sessions
) -> Standing:
    """Compare the best epoch of a rival with that of the incumbent.

    Args:
        name: Name of the rival's recipe.
        result: Search of the rival.
        incumbent: Search of the incumbent, validated on the same cases.
        valid: The validation sessions, each of at least one click.
    """
    gain, error = paired_gain(
        score_of_cases(result.ranks), score_of_cases(incumbent.ranks), _session_of_case(valid)
    )
    return Standing(
        name,
        len(result.results),
        result.best_epoch,
        float(case_values(result.ranks, "recall@20").mean()),
        float(case_values(result.ranks, "mrr@20").mean()),
        gain,
        error,
    )


def with_outcomes(own: Standing, rows: Sequence[Standing]) -> list[Standing]:
    """Choose among all that are clearly better than the incumbent; return all with their outcomes.

    Args:
        own: Standing of the incumbent, which is chosen where no other is clearly better.
        rows: Standings of the challengers; one that has an outcome already keeps it unless it is
            clearly better.
    """
    better = [row for row in rows if row.is_better]
    best = max(better, key=lambda row: row.gain, default=own)

    def outcome(row: Standing) -> str:
        if row is best:
            return CHOSEN
        if row is own:
            return "beaten"
        return "another was better" if row.is_better else row.outcome or "not clearly better"

    return [row.ended(outcome(row)) for row in (own, *rows)]


def score_of_cases(ranks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the part of each case in the score, which is their mean; ranks: (cases,) from 1."""
    score = np.zeros(len(ranks))
    for metric, weight in SCORE.items():
        score += weight * case_values(ranks, metric)
    return score


def paired_gain(
    values: NDArray[np.float64], others: NDArray[np.float64], session: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the mean of `values` less that of `others`, and its standard error.

    Args:
        values: (cases,) float64.
        others: (cases,) float64, of the same cases.
        session: (cases,) int64, the session of each case; sessions are resampled whole.
    """
    _, numbered = np.unique(session, return_inverse=True)
    numbers, sessions = numbered.astype(np.int32), int(numbered[-1]) + 1
    differences = values - others
    columns = [session_sums(v, numbers, sessions) for v in (differences, np.ones(len(values)))]
    samples = resampled_sums(np.stack(columns, axis=1))
    return float(differences.mean()), float(ratio(samples[:, 0], samples[:, 1]).std())


def standings_table(standings: Sequence[Standing], budget: object) -> Table:
    """Build a table of what was tried, for the terminal."""
    table = neat_table(
        f"Recipes on the validation sessions, within {budget}",
        left=["recipe"],
        right=["epochs", "R@20", "MRR@20", "gain", "± s.e."],
    )
    table.add_column("outcome", overflow="fold")
    for row in standings:
        figures = [f"{row.recall:.4f}", f"{row.mrr:.4f}", f"{row.gain:+.4f}", f"{row.error:.4f}"]
        shown = figures if row.best_epoch else ["–"] * len(figures)
        style = "bold" if row.outcome == CHOSEN else ""
        add_row(table, row.recipe, row.epochs or "–", *shown, row.outcome, style=style)
    return table


def as_json(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the rows for the bundle's manifest."""
    return [dataclasses.asdict(row) for row in standings]


CHOSEN = "chosen"


def _session_of_case(valid: Sessions) -> NDArray[np.int64]:
    session = valid.session_of_click
    later = np.ones(len(session), dtype=bool)
    later[valid.offsets[:-1]] = False
    return session[later]
