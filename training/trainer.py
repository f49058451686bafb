"""Where a run begins: which items it knows, in which order, and with which weights.

`FromScratch` begins with random weights for the items of the training sessions;
`training/warm_start.py` goes on from those of a bundle.
"""

import copy
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor

from data.batches import BatchPlan, SessionParallelBatches, WholeSessionBatches
from data.sessions import Sessions, known_items, reindex
from data.split import split_by_fraction
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput, Interrupted, TrainingStopped
from recsys.predictor import Predictor
from training.checkpoint import (
    CHECKPOINT,
    EpochResult,
    TrainerState,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)
from training.evaluation.evaluate import evaluate
from training.model.sampling import RandomStreams, candidate_sampler
from training.model.step import TrainingStep
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe


class Initialiser(Protocol):
    """Asked once for each phase of a run, because a validation part takes items away."""

    @property
    def mark(self) -> str:
        """What tells a checkpoint of this start from those of others; empty for scratch."""
        ...

    def catalogue(self, sessions: Sessions) -> Catalogue:
        """The items in the order of their indices; holds every item of the sessions."""
        ...

    def weights(
        self, catalogue: Catalogue, indexed: Sessions, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """Weights that the run may change; indexed: the sessions in the catalogue's indices."""
        ...


class FromScratch:
    """Random weights; items in the order in which the clicks first name them."""

    mark = ""

    def catalogue(self, sessions: Sessions) -> Catalogue:
        item_ids = known_items(sessions)
        return Catalogue(item_ids, reindex(sessions, item_ids).counts())

    def weights(
        self, catalogue: Catalogue, indexed: Sessions, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        return Weights.fresh(recipe.size(len(catalogue)), generator)


@dataclass
class Stop:
    """`asked` turns true at the first signal; a second one interrupts at once."""

    asked: bool = False


@contextmanager
def stop_on_signal(outer: Stop | None = None) -> Iterator[Stop]:
    """outer: a question that a loop around this one asks already; its answer counts here too."""
    if outer is not None:
        yield outer
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


CHECKPOINT_SECONDS = 60.0  # a kill costs about this much work, at most
STEPS_BETWEEN_CHECKS = 100  # reading the loss waits for the device


class ProgressListener(Protocol):
    """Whoever shows the progress of a run."""

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None: ...
    def stepped(self, events: int, mean_loss: float) -> None: ...
    def epoch_ends(self, result: EpochResult) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """What a run gives: weights, the items they stand for, and how it went."""

    weights: Weights
    catalogue: Catalogue
    results: list[EpochResult]
    best_epoch: int
    blend_weight: float = 0.0  # of session neighbours beside the model; 0 for the model alone


# (the search's best predictor, sessions it learned from, sessions to validate on) → weight
WeightChooser = Callable[[Predictor, Sessions, Sessions], float]


class Trainer:
    """One training run in a folder of its own, which holds its checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        watcher: ProgressListener,
        choose_weight: WeightChooser | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        """choose_weight: asked for the blend's weight when the search is over."""
        self._recipe = recipe
        self._folder = folder
        self._device = device
        self._watcher = watcher
        self._choose_weight = choose_weight
        self._checkpoint_seconds = checkpoint_seconds
        self._position = TrainerState()
        self._restored: dict[str, dict[str, Tensor]] = {}
        self._mark = ""
        self._start: Initialiser = FromScratch()

    def train(
        self,
        train: Sessions,
        valid: Sessions | None,
        start: Initialiser | None = None,
        outer: Stop | None = None,
    ) -> TrainingResult:
        """Sessions as `data/` gives them; goes on from the folder's checkpoint if there is one.

        valid: sessions to validate on, which are then never learned from, or None to cut them
        out of `train` as the recipe says. start: what to begin with, by default from scratch.
        outer: see `stop_on_signal`.
        """
        labelled = valid is not None
        self._start = start or self._start
        self._mark = fingerprint(train, valid, self._recipe, self._start.mark)
        found = load_checkpoint(self._folder, self._mark)
        if found is not None:
            self._position, self._restored = found
        inner = train
        if valid is None and self._recipe.validation > 0 and len(train) >= 10:
            cut = split_by_fraction(train, self._recipe.validation)
            inner, valid = cut.train.keep_sessions(cut.train.lengths >= 2), cut.test
        if valid is not None:
            _check_validation(inner, valid)
        with stop_on_signal(outer) as stop:
            if self._position.phase == "search":
                trained = self._phase(inner, valid, self._recipe.epochs, stop)
                trained = self._weighed(trained, inner, valid)
                if valid is None or labelled or not self._recipe.refit:
                    return trained
                self._position = TrainerState(
                    phase="refit",
                    best_epoch=trained.best_epoch,
                    best_score=self._position.best_score,
                    blend_weight=trained.blend_weight,
                    results=self._position.results,
                )
            return self._phase(train, None, self._position.best_epoch, stop)

    def _phase(
        self, sessions: Sessions, valid: Sessions | None, epochs: int, stop: Stop
    ) -> TrainingResult:
        catalogue = self._start.catalogue(sessions)
        indexed = reindex(sessions, catalogue.item_ids)
        plan = steps_of(indexed, self._recipe)
        learner, best = self._learner(catalogue, indexed, plan)
        position = self._position
        while position.epoch < epochs and not self._out_of_patience(valid):
            self._epoch(learner, best, plan, epochs, stop)
            metrics = {} if valid is None else self._validate(learner.result, catalogue, valid)
            result = EpochResult(
                position.phase,
                position.epoch + 1,
                position.loss_sum / plan.events,
                position.seconds,
                plan.events,
                metrics,
                sum(position.norms) / max(len(position.norms), 1),
            )
            position.results.append(result)
            position.epoch, position.step = position.epoch + 1, 0
            position.loss_sum = position.seconds = 0.0
            position.norms = []
            score = metrics.get(self._recipe.select_by, position.best_score)
            if valid is not None and score > position.best_score:
                position.best_epoch, position.best_score = position.epoch, score
                best = copy.deepcopy(learner.result.tensors())
            self._save(learner, best)
            self._watcher.epoch_ends(result)
        if valid is None:
            position.best_epoch = position.epoch
        else:
            learner.result.load(best)
        return TrainingResult(
            learner.result.to(torch.device("cpu")),
            catalogue,
            position.results,
            position.best_epoch,
            position.blend_weight,
        )

    def _weighed(
        self, trained: TrainingResult, inner: Sessions, valid: Sessions | None
    ) -> TrainingResult:
        """The same with the blend's weight, chosen once and then kept in the checkpoint."""
        if self._choose_weight is None:
            return trained
        if valid is None:
            return dataclasses.replace(trained, blend_weight=self._recipe.blend_weight)
        predictor = self._predictor(trained.weights, trained.catalogue)
        weight = self._choose_weight(predictor, inner, valid)
        return dataclasses.replace(trained, blend_weight=weight)

    def _learner(
        self, catalogue: Catalogue, indexed: Sessions, plan: BatchPlan
    ) -> tuple[TrainingStep, dict[str, Tensor]]:
        """A learner at the beginning of the phase, or where the checkpoint left it."""
        recipe = self._recipe
        generator = torch.Generator().manual_seed(recipe.seed)
        weights = self._start.weights(catalogue, indexed, recipe, generator).to(self._device)
        events = plan.events / len(plan)
        columns = candidate_sampler(recipe, catalogue.counts, events, self._device)
        learner = TrainingStep(weights, recipe, columns, self._device)
        restored, self._restored = self._restored, {}
        if restored:
            weights.load(restored["weights"])
            learner.load(restored["learner"])
        return learner, restored.get("best", {})

    def _epoch(
        self,
        learner: TrainingStep,
        best: dict[str, Tensor],
        plan: BatchPlan,
        epochs: int,
        stop: Stop,
    ) -> None:
        position, begun = self._position, self._position.step
        if begun == 0:
            learner.begin_epoch()
        done = plan.events_before(begun)
        self._watcher.epoch_begins(position.phase, position.epoch + 1, epochs, done, plan.events)
        losses = torch.zeros((), dtype=torch.float64, device=self._device)
        started = saved = time.monotonic()
        earlier_loss, earlier_seconds = position.loss_sum, position.seconds
        for step in range(begun, len(plan)):
            batch = plan[step]
            # a refit follows the search's rates, also where it ends earlier
            share = (position.epoch + step / len(plan)) / self._recipe.epochs
            measured = step % STEPS_BETWEEN_CHECKS == 0
            draws = RandomStreams(self._device, self._recipe.seed, position.epoch, step)
            done_step = learner.learn(batch, draws, share, measure=measured)
            losses += done_step.loss
            if measured and done_step.gradient_norm is not None:
                position.norms.append(float(done_step.gradient_norm))
            done += len(batch)
            position.step = step + 1
            last = position.step == len(plan)
            if last or stop.asked or position.step % STEPS_BETWEEN_CHECKS == 0:
                now = time.monotonic()
                position.loss_sum = earlier_loss + float(losses)
                position.seconds = earlier_seconds + now - started
                self._check(position, learner.weights if last else None)
                self._watcher.stepped(done, position.loss_sum / done)
                if not last and (stop.asked or now - saved > self._checkpoint_seconds):
                    self._save(learner, best)
                    saved = time.monotonic()
                if stop.asked and not last:
                    break
        if stop.asked and position.step < len(plan):
            raise Interrupted(
                f"Stopped in epoch {position.epoch + 1} of {position.phase}, step "
                f"{position.step:,} of {len(plan):,}. The work so far is in {self._folder}; "
                "go on with the same command and --resume."
            )

    def _check(self, position: TrainerState, weights: Weights | None) -> None:
        """Raises `TrainingStopped` where there is nothing left to learn from.

        weights: looked at too where they are given, which takes a pass over the whole matrix.
        """
        broken = None if math.isfinite(position.loss_sum) else "The loss"
        tensors = [] if weights is None else list(weights.tensors().values())
        if broken is None and not all(tensor.isfinite().all() for tensor in tensors):
            broken = "A weight"
        if broken is None:
            return
        kept = (self._folder / CHECKPOINT).exists()
        raise TrainingStopped(
            f"{broken} is no number any more in epoch {position.epoch + 1}, at step "
            f"{position.step:,}, with learning_rate {self._recipe.learning_rate:g}. "
            f"{f'The last checkpoint before it is in {self._folder}. ' if kept else ''}"
            f"Try a lower rate, --set learning_rate={self._recipe.learning_rate / 2:g}, "
            "or less momentum."
        )

    def _out_of_patience(self, valid: Sessions | None) -> bool:
        if valid is None or self._position.best_epoch == 0:
            return False
        return self._position.epoch - self._position.best_epoch >= self._recipe.patience

    def _validate(
        self, weights: Weights, catalogue: Catalogue, valid: Sessions
    ) -> dict[str, float]:
        held = reindex(valid, catalogue.item_ids)
        return evaluate(self._predictor(weights, catalogue), held, len(catalogue)).metrics

    def _predictor(self, weights: Weights, catalogue: Catalogue) -> Predictor:
        here = copy.deepcopy(weights).to(torch.device("cpu"))
        return eager_predictor(here, catalogue, self._recipe)

    def _save(self, learner: TrainingStep, best: dict[str, Tensor]) -> None:
        groups = {"weights": learner.weights.tensors(), "learner": learner.tensors(), "best": best}
        save_checkpoint(self._folder, self._mark, self._position, groups)


def _check_validation(inner: Sessions, valid: Sessions) -> None:
    """Raises `BadInput` before any work where no epoch could be told from another."""
    targets = valid.next_clicks
    if not (inner.counts() > 0)[targets].any():
        raise BadInput(
            "The validation part cannot be used",
            [
                f"none of its {len(targets):,} next clicks is on an item of the other training "
                "sessions. Train without one: --set validation=0."
            ],
        )


def steps_of(sessions: Sessions, recipe: Recipe) -> BatchPlan:
    """One epoch as the recipe reads it; sessions: items as indices of the catalogue."""
    if recipe.batches == "lanes":
        return SessionParallelBatches(sessions, recipe.batch)
    return WholeSessionBatches(sessions, recipe.batch, recipe.window, recipe.seed)
