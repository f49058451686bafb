"""Trainer: one training run, with checkpoints, early stopping and a final refit.

A run has a search phase, which validates after each epoch and stops early, and, where the recipe
says so, a refit phase on all sessions for the best number of epochs. An `Initialiser` gives each
phase its catalogue and weights: `FromScratch`, or `training.warm_start.WarmStart`.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches.batch import BatchPlan
from data.batches.selection import Selection
from data.batches.session_parallel import SessionParallelBatches
from data.batches.whole_sessions import WholeSessionBatches
from data.content import ItemContent
from data.sessions import Counted, Sessions, reindex, typed
from recsys import __version__
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import Interrupted, TrainingStopped
from recsys.model.event_types import EventTypes
from recsys.predictor import Predictor
from training.checkpoint import (
    CHECKPOINT,
    Additions,
    EpochResult,
    TrainerState,
    fingerprint,
    load_for_all,
    save_checkpoint,
)
from training.evaluation.evaluate import Evaluation, evaluate
from training.model.content import CONTENT_VERSION, ContentFeatures, ContentWeights
from training.model.event_types import event_types_of, learned_share
from training.model.optim import learning_rate_at
from training.model.sampling import RandomStreams, candidate_sampler
from training.model.step import TrainingStep
from training.model.weights import Weights, eager_predictor
from training.parallel.agreement import check_agreement, checksum
from training.parallel.processes import ALONE, Processes, Traffic
from training.recipe import Recipe
from training.stop import Stop, stop_on_signal
from training.validation import check_validation, validation_split

CHECKPOINT_SECONDS = 60.0  # a kill costs about this much work, or more where writing is slow
CHECKPOINT_SHARE = 0.02  # of the time, at most, for writing checkpoints within an epoch
STEPS_BETWEEN_CHECKS = 100  # reading the loss waits for the device
STEPS_BETWEEN_REQUESTS = 10  # several processes ask each other for a request to stop

ItemTexts = Mapping[str, Mapping[str, str | None]]  # attribute → item id → text


class Initialiser(Protocol):
    """Source of the catalogue and the initial weights of each phase of a run."""

    @property
    def fingerprint(self) -> str:
        """Return a text that differs between initialisers; it distinguishes checkpoints."""
        ...

    def catalogue(self, sessions: Counted) -> Catalogue:
        """Return the catalogue in the order of item indices; it has every item of the sessions."""
        ...

    def event_types(self, train: Sessions, recipe: Recipe) -> EventTypes:
        """Return the types of clicks that the model knows; raise `BadRecipe`."""
        ...

    def learned_part(self, sessions: Selection) -> Selection:
        """Return the sessions that the weights learn from; the others count in the catalogue."""
        ...

    def weights(
        self, catalogue: Catalogue, indexed: Selection, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """Return weights that the run may change; indexed: sessions of the catalogue's indices."""
        ...


@dataclass(frozen=True)
class FromScratch:
    """Initialiser with random weights; items in the order in which the log first names them."""

    attributes: ItemTexts = field(default_factory=dict)
    content: ItemContent | None = None

    @property
    def fingerprint(self) -> str:
        """Return a text that differs between contents."""
        return "" if self.content is None else f"{self.content.digest} {CONTENT_VERSION}"

    def catalogue(self, sessions: Counted) -> Catalogue:
        """Return the catalogue of all clicked items, then those that have content alone."""
        counts = sessions.counts()
        item_ids = tuple(sessions.item_ids[code] for code in np.flatnonzero(counts).tolist())
        counts = counts[counts > 0]
        if self.content is not None:
            clicked = set(item_ids)
            item_ids += tuple(i for i in self.content.ids.to_pylist() if i not in clicked)
            counts = np.pad(counts, (0, len(item_ids) - len(counts)))
        return Catalogue(item_ids, counts, texts_of(self.attributes, item_ids))

    def event_types(self, train: Sessions, recipe: Recipe) -> EventTypes:
        """Return the types of the sessions."""
        return event_types_of(train, recipe)

    def learned_part(self, sessions: Selection) -> Selection:
        """Return all sessions."""
        return sessions

    def weights(
        self, catalogue: Catalogue, indexed: Selection, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """Return random weights."""
        clicked, types = (
            int(np.count_nonzero(catalogue.counts)),
            self.event_types(indexed.log, recipe),
        )
        weights = Weights.fresh(recipe.size(clicked, types.count), generator, types)
        if self.content is None:
            return weights
        features = ContentFeatures.of(self.content, catalogue.item_ids, clicked)
        content = ContentWeights.fresh(features, recipe.hidden, generator)
        return dataclasses.replace(weights, content=content)


def texts_of(attributes: ItemTexts, item_ids: tuple[str, ...]) -> dict[str, list[str | None]]:
    """Return each attribute in the order of the item ids, None where a text is missing."""
    return {name: [texts.get(item) for item in item_ids] for name, texts in attributes.items()}


class ProgressListener(Protocol):
    """Receiver of a run's progress."""

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None: ...
    def stepped(self, events: int, mean_loss: float) -> None: ...
    def epoch_ends(self, result: EpochResult) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run: weights on the CPU, their catalogue, and the results of all epochs."""

    weights: Weights
    catalogue: Catalogue
    results: list[EpochResult]
    best_epoch: int
    additions: Additions = field(default_factory=Additions)


@dataclass(frozen=True)
class SearchProgress:
    """Progress of a search phase: the results of its epochs, and the best epoch so far."""

    results: list[EpochResult]
    best_epoch: int
    ranks: NDArray[np.int32]  # (cases,) of the validation targets in the best epoch, 1 for the best


# (the search's best predictor, sessions it learned from, sessions to validate on, if any)
AdditionsChooser = Callable[[Predictor, Selection, Sessions | None], Additions]


@dataclass
class _Phase:
    """Phase of a run: catalogue, steps of an epoch, and the model in training."""

    catalogue: Catalogue
    plan: BatchPlan
    step: TrainingStep
    epochs: int  # at most
    valid: Sessions | None  # sessions of the catalogue's indices
    best: dict[str, Tensor]  # weights of the best epoch so far
    ranks: dict[str, Tensor]  # ranks of the validation targets in that epoch


class Trainer:
    """Trainer of one run in a folder of its own, which holds its checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        listener: ProgressListener,
        choose_additions: AdditionsChooser | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        search_epochs: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Prepare a run.

        Args:
            recipe: Settings of the run.
            folder: Existing folder for the checkpoint.
            device: Where the model is trained; validation runs on the CPU.
            listener: Receives the progress.
            choose_additions: Chooses the additions at the end of the search, in the first process;
                None for none.
            checkpoint_seconds: Time between checkpoints within an epoch, in seconds; longer where
                it takes long to write one, see `checkpoint_pause`.
            search_epochs: Highest number of epochs of the search, where it is below the recipe's.
                It changes no epoch: a trainer with a higher number goes on from the checkpoint.
            processes: They share the rows of each mini-batch; the first one has the folder.
        """
        self._recipe = recipe
        self._folder = folder
        self._device = device
        self._listener = listener
        self._choose_additions = choose_additions
        self._checkpoint_seconds = self._pause = checkpoint_seconds
        self._search_epochs = min(search_epochs or recipe.epochs, recipe.epochs)
        self._processes = processes
        self._state = TrainerState()
        self._restored: dict[str, dict[str, Tensor]] = {}
        self._fingerprint = ""
        self._initialiser: Initialiser = FromScratch()

    @property
    def epochs_begun(self) -> int:
        """Return how many epochs of the phase have begun, the last one perhaps unfinished."""
        return self._state.epoch + (self._state.step > 0)

    def train(
        self,
        train: Sessions,
        valid: Sessions | None,
        initialiser: Initialiser | None = None,
        stop: Stop | None = None,
    ) -> TrainingResult:
        """Train, from the folder's checkpoint where it has one.

        Args:
            train: Training sessions, items as codes of their log, each of at least two clicks.
            valid: Sessions to validate on, which are never trained on; None to cut the last share
                of `train` off, as the recipe says.
            initialiser: Source of the initial weights; None for `FromScratch`.
            stop: Request of an enclosing `stop_on_signal`, if there is one.

        Returns:
            The weights of the best epoch, or of the refit, on the CPU.

        Raises:
            BadInput: The validation part has no usable target, the checkpoint is damaged or belongs
                to another run, or the processes have different clicks, recipes or versions.
            Interrupted: A signal stopped the run; the checkpoint has the work so far.
            TrainingStopped: The loss or a weight is NaN or infinite.
        """
        may_refit = valid is None and self._recipe.refit
        train, search_part, valid = self._begin(train, valid, initialiser)
        with stop_on_signal(stop) as stop:
            if self._state.phase == "search":
                phase = self._run_phase(search_part, valid, self._search_epochs, stop)
                trained = self._result(phase)
                trained = self._with_additions(trained, search_part, valid)
                if valid is None or not may_refit:
                    return trained
                self._state = TrainerState(
                    phase="refit",
                    best_epoch=trained.best_epoch,
                    best_score=self._state.best_score,
                    additions=trained.additions,
                    results=self._state.results,
                )
            everything, epochs = Selection(train), self._state.best_epoch
            return self._result(self._run_phase(everything, None, epochs, stop))

    def search(
        self,
        train: Sessions,
        valid: Sessions | None,
        initialiser: Initialiser | None = None,
        stop: Stop | None = None,
    ) -> SearchProgress:
        """Run the search phase alone, from the folder's checkpoint where it has one.

        `train` goes on from here, with the same arguments. So does `search` of a trainer with more
        epochs.

        Args:
            train: As for `train`.
            valid: As for `train`.
            initialiser: As for `train`.
            stop: As for `train`.

        Raises:
            BadInput: As `train`.
            Interrupted: As `train`.
            TrainingStopped: As `train`.
        """
        _, search_part, valid = self._begin(train, valid, initialiser)
        assert valid is not None, "a search validates"
        assert self._state.phase == "search", "its refit has begun"
        with stop_on_signal(stop) as stop:
            phase = self._run_phase(search_part, valid, self._search_epochs, stop)
        state = self._state
        return SearchProgress(state.results, state.best_epoch, phase.ranks["best"].numpy())

    def _begin(
        self, train: Sessions, valid: Sessions | None, initialiser: Initialiser | None
    ) -> tuple[Sessions, Selection, Sessions | None]:
        """Load the checkpoint; return all sessions with the types that the model knows.

        Behind them are the sessions of the search: to train and to validate on.
        """
        self._initialiser = initialiser or self._initialiser
        train = typed(train, self._initialiser.event_types(train, self._recipe))
        self._restore(fingerprint(train, valid, self._recipe, self._initialiser.fingerprint))
        search_part, sample = validation_split(train, valid, self._recipe)
        if sample is None:
            return train, search_part, None
        check_validation(search_part, sample.sessions)
        return train, search_part, sample.sessions

    def _restore(self, run: str) -> None:
        """Load the checkpoint of the run with this fingerprint, if the folder has one."""
        self._fingerprint = run
        facts = settings_and_versions(self._recipe, self._device)
        check_agreement(self._processes, {**facts, "clicks": run})
        checkpoint = load_for_all(self._folder, run, self._processes)
        if checkpoint is not None:
            self._state, self._restored = checkpoint

    def _run_phase(
        self, sessions: Selection, valid: Sessions | None, epochs: int, stop: Stop
    ) -> _Phase:
        phase, state = self._begin_phase(sessions, valid, epochs), self._state
        while state.epoch < epochs and not self._patience_is_over(phase):
            self._epoch(phase, stop)
            self._end_epoch(phase)
            # an epoch may have fewer steps than there are between two requests
            if self._processes.size > 1 and self._processes.any(stop.requested):
                raise self._interrupted(len(phase.plan))
        return phase

    def _result(self, phase: _Phase) -> TrainingResult:
        """Return the result of a phase that has ended."""
        result, state = phase.step.result, self._state
        if phase.valid is None:
            state.best_epoch = state.epoch
        else:
            result.load(phase.best)
        return TrainingResult(
            result.to(torch.device("cpu")),
            phase.catalogue,
            state.results,
            state.best_epoch,
            state.additions,
        )

    def _begin_phase(self, sessions: Selection, valid: Sessions | None, epochs: int) -> _Phase:
        """Return the phase at its beginning, or where the checkpoint left it."""
        recipe = self._recipe
        catalogue = self._initialiser.catalogue(sessions)
        indexed = self._initialiser.learned_part(sessions).indexed(catalogue.item_ids)
        plan = plan_batches(indexed, recipe)
        generator = torch.Generator().manual_seed(recipe.seed)
        weights = self._initialiser.weights(catalogue, indexed, recipe, generator).to(self._device)
        clicks_per_step = plan.clicks * learned_share(indexed.log, recipe) / len(plan)
        counts = catalogue.counts[catalogue.counts > 0]  # the others are no candidates
        candidates = candidate_sampler(recipe, counts, clicks_per_step, self._device)
        step = TrainingStep(weights, recipe, candidates, self._device, self._processes)
        restored, self._restored = self._restored, {}
        if restored:
            weights.load(restored["weights"])
            step.load(restored["learner"])
        indexed_valid = None if valid is None else reindex(valid, catalogue.item_ids)
        best, ranks = restored.get("best", {}), restored.get("ranks", {})
        return _Phase(catalogue, plan, step, epochs, indexed_valid, best, ranks)

    def _epoch(self, phase: _Phase, stop: Stop) -> None:
        """Run the steps that are left of this epoch; report and save from time to time."""
        state, plan = self._state, phase.plan
        if state.step == 0:
            phase.step.begin_epoch()
        self._listener.epoch_begins(
            state.phase, state.epoch + 1, phase.epochs, plan.clicks_before(state.step), plan.clicks
        )
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        started = saved = time.monotonic()
        earlier_loss, earlier_seconds = state.loss_sum, state.seconds
        earlier_traffic, traffic = state.traffic, self._processes.traffic
        for step in range(state.step, len(plan)):
            loss += self._step(phase, step)
            finished = state.step == len(plan)
            stopping = not finished and self._is_asked_to_stop(stop)
            if not (finished or stopping or state.step % STEPS_BETWEEN_CHECKS == 0):
                continue
            now = time.monotonic()
            state.loss_sum = earlier_loss + float(loss)
            state.seconds = earlier_seconds + now - started
            state.traffic = earlier_traffic + (self._processes.traffic - traffic)
            self._check_finite(phase.step.weights if finished else None)
            clicks = plan.clicks_before(state.step)
            self._listener.stepped(clicks, state.loss_sum / clicks)
            if finished:
                return
            due = self._processes.is_first and now - saved > self._pause  # it alone writes
            if stopping or self._processes.any(due):
                self._save(phase)
                saved = time.monotonic()
                self._pause = checkpoint_pause(self._checkpoint_seconds, saved - now)
            if stopping:
                raise self._interrupted(len(plan))

    def _is_asked_to_stop(self, stop: Stop) -> bool:
        """Return whether this process, or from time to time whether any process, is to stop."""
        if self._processes.size > 1 and self._state.step % STEPS_BETWEEN_REQUESTS > 0:
            return False
        return self._processes.any(stop.requested)

    def _step(self, phase: _Phase, step: int) -> Tensor:
        """Run one step and return its loss, a scalar on the device."""
        state = self._state
        # a refit follows the learning rates of the search, also where it ends earlier
        share = (state.epoch + step / len(phase.plan)) / self._recipe.epochs
        measure = step % STEPS_BETWEEN_CHECKS == 0
        random = RandomStreams(self._device, self._recipe.seed, state.epoch, step)
        rate = learning_rate_at(self._recipe, share, len(phase.plan) * self._recipe.epochs)
        result = phase.step.run(phase.plan[step], random, rate, measure=measure)
        if measure and result.gradient_norm is not None:
            state.norms.append(float(result.gradient_norm))
        state.step = step + 1
        return result.loss

    def _end_epoch(self, phase: _Phase) -> None:
        """Validate, keep the best weights, and save."""
        state = self._state
        if self._processes.size > 1:
            check_agreement(self._processes, {"weights": checksum(phase.step.weights.tensors())})
        validated = None if phase.valid is None else self._validate(phase, phase.valid)
        metrics = {} if validated is None else validated.metrics
        result = EpochResult(
            state.phase,
            state.epoch + 1,
            state.loss_sum / phase.plan.clicks,
            state.seconds,
            phase.plan.clicks,
            metrics,
            sum(state.norms) / max(len(state.norms), 1),
            self._processes.size,
            state.traffic.seconds,
            state.traffic.bytes / len(phase.plan),
        )
        state.results.append(result)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum = state.seconds = 0.0
        state.norms, state.traffic = [], Traffic()
        score = metrics.get(self._recipe.select_by, state.best_score)
        if validated is not None and score > state.best_score:
            state.best_epoch, state.best_score = state.epoch, score
            phase.best = copy.deepcopy(phase.step.result.tensors())
            phase.ranks = {"best": torch.from_numpy(validated.ranked.rank)}
        self._save(phase)
        self._listener.epoch_ends(result)

    def _check_finite(self, weights: Weights | None) -> None:
        """Raise `TrainingStopped` where the loss, or one of the weights, is NaN or infinite.

        Args:
            weights: Given once an epoch, because checking them reads the whole item matrix.
        """
        state, diverged = self._state, None
        if not math.isfinite(state.loss_sum):
            diverged = "the loss"
        elif weights and not all(t.isfinite().all() for t in weights.tensors().values()):
            diverged = "a weight"
        if diverged is None:
            return
        has_checkpoint = (self._folder / CHECKPOINT).exists()
        raise TrainingStopped(
            f"Training diverged: {diverged} is NaN or infinite (epoch {state.epoch + 1}, step "
            f"{state.step:,}, learning_rate={self._recipe.learning_rate:g}). "
            f"{f'The last checkpoint before it is in {self._folder}. ' if has_checkpoint else ''}"
            "Try a lower learning rate or --set clip=1.0."
        )

    def _interrupted(self, steps: int) -> Interrupted:
        state = self._state
        return Interrupted(
            f"Stopped in epoch {state.epoch + 1} of {state.phase}, step {state.step:,} of "
            f"{steps:,}. The work so far is in {self._folder}; "
            "go on with the same command and --resume."
        )

    def _patience_is_over(self, phase: _Phase) -> bool:
        if phase.valid is None or self._state.best_epoch == 0:
            return False
        return self._state.epoch - self._state.best_epoch >= self._recipe.patience

    def _with_additions(
        self, trained: TrainingResult, search_part: Selection, valid: Sessions | None
    ) -> TrainingResult:
        """Return the result with the additions, which the first process chooses."""
        if self._choose_additions is None:
            return trained
        chosen = None
        if self._processes.is_first:
            predictor = self._predictor(trained.weights, trained.catalogue)
            chosen = dataclasses.asdict(self._choose_additions(predictor, search_part, valid))
        additions = Additions.from_json(self._processes.of_first(chosen))
        return dataclasses.replace(trained, additions=additions)

    def _validate(self, phase: _Phase, valid: Sessions) -> Evaluation:
        # the best epoch is that of the items with clicks
        weights = phase.step.result.with_hidden(len(phase.catalogue))
        predictor = self._predictor(weights, phase.catalogue)
        return evaluate(predictor, valid, len(phase.catalogue), processes=self._processes)

    def _predictor(self, weights: Weights, catalogue: Catalogue) -> Predictor:
        on_cpu = copy.deepcopy(weights).to(torch.device("cpu"))
        return eager_predictor(on_cpu, catalogue, self._recipe)

    def _save(self, phase: _Phase) -> None:
        """Write the checkpoint, in the first process, of what all of them carry."""
        phase.step.complete_state()
        if not self._processes.is_first:
            return
        groups = {
            "weights": phase.step.weights.tensors(),
            "learner": phase.step.tensors(),
            "best": phase.best,
            "ranks": phase.ranks,
        }
        save_checkpoint(self._folder, self._fingerprint, self._state, groups)


def checkpoint_pause(least: float, write_seconds: float) -> float:
    """Return the seconds until the next checkpoint, so that writing takes a small share.

    Args:
        least: Seconds, at least; 0 for checkpoints as often as possible, however long they take.
        write_seconds: Seconds that it took to write the last one.
    """
    return max(least, write_seconds / CHECKPOINT_SHARE) if least > 0 else 0.0


def settings_and_versions(recipe: Recipe, device: torch.device) -> dict[str, str]:
    """Return all that must be the same in the processes of a run, beside the clicks."""
    on_card = device.type == "cuda"
    settings = {f"setting {name}": str(value) for name, value in dataclasses.asdict(recipe).items()}
    return {
        **settings,
        "version of session-recsys": __version__,
        "version of torch": torch.__version__,
        # these change the last bits of an update, so that the weights would drift apart
        "device": torch.cuda.get_device_name(device) if on_card else device.type,
        "instructions of the processor": torch.backends.cpu.get_cpu_capability(),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }


def plan_batches(sessions: Sessions | Selection, recipe: Recipe) -> BatchPlan:
    """Return the steps of an epoch as the recipe has them; sessions: of item indices."""
    if recipe.batches == "session-parallel":
        return SessionParallelBatches(sessions, recipe.batch)
    return WholeSessionBatches(sessions, recipe.batch, recipe.window, recipe.seed)
