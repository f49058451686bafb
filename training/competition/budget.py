"""Budget of a competition, and what an epoch of a recipe costs.

Costs are floating-point operations that follow from recipe and clicks alone. So a budget in
trainings gives the same decisions on every machine, and a fixed seed gives the same weights. A
budget in seconds becomes operations once, by the speed of the first epochs; that number is kept in
the folder of the run.
"""

import math
import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.errors import BadInput
from recsys.model.cells import CELLS
from training.competition.durations import duration_seconds, duration_text
from training.recipe import Recipe

AUTO = "auto"  # name of the recipe by which recipes compete
TRAININGS = re.compile(r"(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})x")
# Operations that take as long, measured on one thread of a CPU: reading and updating memory is
# slower than matrix products.
OPERATIONS_OF_A_SCORE = {"cross-entropy": 800, "bpr-max": 1200}  # of the loss
OPERATIONS_OF_AN_UPDATE = 1000  # one number of an item vector: gathered, updated, written back


@dataclass(frozen=True, slots=True)
class Budget:
    """Budget of competition and refit together; one of both numbers is set."""

    trainings: float | None = 2.0  # of the incumbent, its refit included
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2x` or a duration like `10m`; raise `BadInput` for anything else."""
        written = text.strip() if isinstance(text, str) else ""
        trainings = TRAININGS.fullmatch(written)
        if trainings is not None and float(trainings[1]) > 0:
            return cls(float(trainings[1]))
        seconds = None if written.isdigit() else duration_seconds(written)
        if seconds is None:
            raise BadInput(
                "--budget cannot be used",
                [
                    f"got {text!r}. Write 2x for twice the time of one training, or a time like "
                    "10m or 1h30m."
                ],
            )
        return cls(None, seconds)

    @classmethod
    def of_recipe(cls, recipe: str, text: str | None) -> Self:
        """Read the budget given beside a recipe of this name; None is the default.

        Raises:
            BadInput: It cannot be read, or the recipe is a single one, which has no budget.
        """
        if text is None:
            return cls()
        if recipe != AUTO:
            raise BadInput(
                "--budget cannot be used",
                [
                    f"recipe {recipe} alone is trained, which takes what it takes. Leave out "
                    "--budget or --recipe."
                ],
            )
        return cls.parse(text)

    def __str__(self) -> str:
        return f"{self.trainings:g}x" if self.seconds is None else duration_text(self.seconds)


@dataclass(frozen=True, slots=True)
class EpochCost:
    """Cost of one epoch of a recipe, in floating-point operations."""

    steps: float  # of the search, without validation
    search: float  # with validation
    refit: float

    @property
    def both(self) -> float:
        """Return the cost of an epoch that the refit repeats."""
        return self.search + self.refit


def epoch_cost(
    recipe: Recipe,
    train: Sessions,
    search_part: Sessions | Selection,
    valid: Sessions,
    *,
    may_refit: bool,
) -> EpochCost:
    """Estimate the cost of an epoch.

    Args:
        recipe: The recipe.
        train: Sessions of the refit.
        search_part: Sessions of the search.
        valid: Sessions to validate on.
        may_refit: Whether a refit follows.
    """
    steps = _steps_cost(recipe, Selection.of(search_part))
    items = np.count_nonzero(search_part.counts())
    cases = len(valid.items) - len(valid)
    validation = cases * (_forward(recipe) + 2 * recipe.hidden * items)
    refit = _steps_cost(recipe, Selection(train)) if may_refit else 0.0
    return EpochCost(steps, steps + validation, refit)


def _steps_cost(recipe: Recipe, sessions: Selection) -> float:
    """Return the operations of all training steps of an epoch."""
    items = np.count_nonzero(sessions.counts())
    clicks = sessions.clicks - len(sessions)
    clicks_per_step = float(recipe.batch)
    if recipe.batches == "sessions":
        clicks_per_step = min(recipe.batch * clicks / len(sessions), clicks)
    drawn = recipe.negatives + clicks_per_step
    candidates = float(items)
    if recipe.scored_items != "all":
        candidates = items * -math.expm1(-drawn / items)  # unique ones, of uniform samples
    scores = candidates * (6 * recipe.hidden + OPERATIONS_OF_A_SCORE[recipe.loss])
    updates = OPERATIONS_OF_AN_UPDATE * candidates * recipe.hidden / clicks_per_step
    return clicks * (scores + updates + 3 * _forward(recipe))


def _forward(recipe: Recipe) -> float:
    """Return the operations of the recurrent layers for one click; the gradient takes twice."""
    gates = CELLS[recipe.cell].GATES
    return float(2 * recipe.layers * gates * recipe.hidden * 2 * recipe.hidden)
