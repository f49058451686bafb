"""Competition of recipes on validation sessions, within a budget.

Every challenger trains for a few epochs. Then the incumbent and the challengers train to their
early stop, the better challenger first: recipes that learn at different speeds cannot be compared
before. A challenger wins where it is better than the incumbent by more than the standard error of
the difference.

A rival is a `Trainer` in a folder of its own. It goes on from its checkpoint, and the winner goes
on to its refit, so no epoch is trained twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.errors import TrainingStopped
from training.checkpoint import fingerprint
from training.competition.budget import Budget, EpochCost, epoch_cost
from training.competition.decisions import Decisions
from training.competition.rivals import Rival
from training.competition.standing import CHOSEN, Standing, as_json, standing, with_outcomes
from training.parallel.agreement import check_agreement
from training.parallel.processes import ALONE, Processes
from training.recipe import original_names
from training.stop import Stop
from training.trainer import Initialiser, SearchProgress, Trainer
from training.validation import validation_split

FIRST_EPOCHS = 3  # of every challenger, which say which of them goes on first

NOT_TRIED = "not tried: the budget is too small"
OUT_OF_BUDGET = "not clearly better when the budget was over"

# (rival, highest number of epochs of its search) → its trainer
TrainerOf = Callable[[Rival, int], Trainer]


@dataclass(frozen=True, slots=True)
class Choice:
    """Winner of a competition, and what was tried."""

    rival: Rival
    search_epochs: int  # highest number of epochs of its search that the budget allows
    standings: Sequence[Standing]


@dataclass(frozen=True)
class Competition:
    """Competition of some rivals, the incumbent first, on the sessions of one log."""

    rivals: Sequence[Rival]
    budget: Budget
    folder: Path
    trainer_of: TrainerOf
    train: Sessions
    valid: Sessions | None
    initialiser: Initialiser
    stop: Stop
    processes: Processes = ALONE

    def run(self) -> Choice:
        """Let the rivals compete, from where the folder's files leave off.

        Raises:
            BadInput: The folder belongs to another run, a trainer's input cannot be used, or the
                processes have different budgets, recipes or clicks.
            Interrupted: A signal stopped the run; the folder has the work so far.
            TrainingStopped: The incumbent diverges.
        """
        recipes = ", ".join(rival.name for rival in self.rivals)
        check_agreement(self.processes, {"budget": str(self.budget), "recipes": recipes})
        decisions = Decisions(self.folder, self._fingerprint, self.processes)
        total = self._total(decisions)
        standings = {r.name: Standing(r.name, outcome=NOT_TRIED) for r in self.rivals}
        incumbent, entered = self._incumbent, self._entered(total)
        if not entered:
            standings[incumbent.name] = standings[incumbent.name].ended(CHOSEN)
            return Choice(incumbent, self._limit(total), list(standings.values()))
        rows = decisions.once(f"after {FIRST_EPOCHS} epochs", partial(self._first, entered))
        standings |= {row["recipe"]: Standing(**row) for row in rows}
        left = [rival for rival in entered if not standings[rival.name].outcome]
        rows = decisions.once("end", partial(self._end, left, total, standings))
        standings |= {row["recipe"]: Standing(**row) for row in rows}
        winner = next(rival for rival in self.rivals if standings[rival.name].outcome == CHOSEN)
        return Choice(winner, standings[winner.name].epochs, list(standings.values()))

    @property
    def _incumbent(self) -> Rival:
        return self.rivals[0]

    @property
    def _fingerprint(self) -> str:
        """Return a digest of everything that decides the competition."""
        recipes = {rival.name: original_names(rival.recipe) for rival in self.rivals}
        text = json.dumps([str(self.budget), recipes, self.initialiser.fingerprint], sort_keys=True)
        return fingerprint(self.train, self.valid, self._incumbent.recipe, text)

    @cached_property
    def _parts(self) -> tuple[Selection, Sessions]:
        """Return the sessions that the searches train on, and those that they validate on."""
        search_part, sample = validation_split(self.train, self.valid, self._incumbent.recipe)
        assert sample is not None, "rivals compete on validation sessions"
        return search_part, sample.sessions

    @cached_property
    def _costs(self) -> Mapping[str, EpochCost]:
        """Return the cost of an epoch of each rival, by its name."""
        search_part, valid = self._parts
        return {
            rival.name: epoch_cost(
                rival.recipe,
                self.train,
                search_part,
                valid,
                may_refit=self.valid is None and rival.recipe.refit,
            )
            for rival in self.rivals
        }

    def _total(self, decisions: Decisions) -> float:
        """Return the budget in operations; one in seconds by the speed of the first epoch."""
        cost = self._costs[self._incumbent.name]
        if self.budget.trainings is not None:
            return self.budget.trainings * self._incumbent.recipe.epochs * cost.both
        assert self.budget.seconds is not None
        speed: float = decisions.once("operations per second", self._speed)
        return self.budget.seconds * speed

    def _speed(self) -> float:
        """Measure the first epoch of the incumbent; return operations per second."""
        first = self._search(self.trainer_of(self._incumbent, 1)).results[0]
        return self._costs[self._incumbent.name].steps / max(first.seconds, 1e-9)

    def _limit(self, total: float) -> int:
        """Return how many epochs of the incumbent's search the budget allows, with its refit."""
        epochs = int(total / self._costs[self._incumbent.name].both + 1e-9)
        return min(max(epochs, 1), self._incumbent.recipe.epochs)

    def _spare(self, total: float) -> float:
        """Return what a whole training of the incumbent leaves of the budget."""
        return total - self._incumbent.recipe.epochs * self._costs[self._incumbent.name].both

    def _entered(self, total: float) -> list[Rival]:
        """Return the challengers whose first epochs the budget allows, in their order."""
        entered, spare = [], self._spare(total)
        for rival in self.rivals[1:]:
            spare -= min(FIRST_EPOCHS, rival.recipe.epochs) * self._costs[rival.name].search
            if spare < 0:
                break
            entered.append(rival)
        return entered

    def _spent(self, standings: Mapping[str, Standing]) -> float:
        """Return what the challengers have cost."""
        return sum(
            standings[rival.name].epochs * self._costs[rival.name].search
            for rival in self.rivals[1:]
        )

    def _search(self, trainer: Trainer) -> SearchProgress:
        return trainer.search(self.train, self.valid, self.initialiser, self.stop)

    def _standing(self, rival: Rival, epochs: int, incumbent: SearchProgress) -> Standing:
        """Train a rival up to so many epochs and compare it with the incumbent."""
        trainer = self.trainer_of(rival, epochs)
        try:
            result = self._search(trainer)
        except TrainingStopped:
            return Standing(rival.name, trainer.epochs_begun, outcome="diverged")
        return standing(rival.name, result, incumbent, self._parts[1])

    def _first(self, challengers: Sequence[Rival]) -> list[dict[str, Any]]:
        """Train all for their first epochs; return the standings of the challengers."""
        incumbent = self._search(self.trainer_of(self._incumbent, FIRST_EPOCHS))
        return as_json([self._standing(rival, FIRST_EPOCHS, incumbent) for rival in challengers])

    def _end(
        self, challengers: Sequence[Rival], total: float, standings: Mapping[str, Standing]
    ) -> list[dict[str, Any]]:
        """Train the incumbent and the challengers to their ends; return their standings."""
        incumbent = self._search(self.trainer_of(self._incumbent, self._incumbent.recipe.epochs))
        own = standing(self._incumbent.name, incumbent, incumbent, self._parts[1])
        cost, trainings = self._costs[self._incumbent.name], self.budget.trainings
        refit = own.best_epoch * cost.refit
        if trainings is not None:  # an early stop has made one training shorter
            total = min(total, trainings * (own.epochs * cost.search + refit))
        rest = total - own.epochs * cost.search - self._spent(standings)
        rows = []
        for rival in sorted(challengers, key=lambda rival: -standings[rival.name].gain):
            done, cost = standings[rival.name].epochs, self._costs[rival.name]
            epochs = self._affordable(rival, done, rest, refit)
            row = self._standing(rival, epochs, incumbent)
            if self._is_cut(rival, row) and not row.outcome:
                row = row.ended(OUT_OF_BUDGET)
            rest -= (row.epochs - done) * cost.search
            refit = max(refit, row.best_epoch * cost.refit)
            rows.append(row)
        return as_json(with_outcomes(own, rows))

    def _is_cut(self, rival: Rival, row: Standing) -> bool:
        """Return whether the search would have gone on."""
        patient = row.epochs - row.best_epoch < rival.recipe.patience
        return patient and row.epochs < rival.recipe.epochs

    def _affordable(self, rival: Rival, done: int, rest: float, reserve: float) -> int:
        """Return the highest number of epochs of a rival's search that the budget allows.

        Args:
            rival: The rival.
            done: Epochs that it has already.
            rest: Operations that are left for its search and for the refit.
            reserve: Operations of the longest refit of the others.
        """
        cost, epochs = self._costs[rival.name], done
        while epochs < rival.recipe.epochs:
            refit = max((epochs + 1) * cost.refit, reserve)
            if (epochs + 1 - done) * cost.search + refit > rest:
                break
            epochs += 1
        return epochs
