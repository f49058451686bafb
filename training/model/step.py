"""One training step: gather rows, score the candidates, loss, gradients, update the rows.

Only the rows of the item matrix that a step needs (inputs, targets, negatives) are gathered,
differentiated and updated. Whole sessions start from the zero state, and a gradient goes back to
their first click. Session-parallel rows start from the state that they carry, and a gradient spans
one click (Hidasi et al., ICLR 2016, arXiv:1511.06939, section 3.1.1).
With content, a second loss teaches the content alone: some candidates lose their own vector, and
the content stands in for it. Its gradient reaches no other weight, so items with clicks learn as
without content, bit for bit.
Several processes share the rows of a mini-batch. The candidates are those of the whole mini-batch,
so all touch the same rows of the item matrix, and each adds up its gradients with those of the
others. Dropout masks are drawn for the whole mini-batch, too: no number depends on the processes.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from data.batches.batch import Batch, BatchPart, rows_of_process
from recsys.model.gru4rec import cells_of
from training.model.content import ContentRows, ContentWeights
from training.model.event_types import target_weights
from training.model.gru_backward import read_layer
from training.model.losses import loss_of
from training.model.optim import ExponentialMovingAverage, Optimizer, optimizer_for
from training.model.sampling import CandidateSampler, CandidateSet, RandomStreams
from training.model.unit_backward import unit_rows
from training.model.weights import Weights
from training.parallel.processes import ALONE, Processes
from training.recipe import Recipe

SMALL = 1e-12  # keeps the division finite where the gradient is zero


@dataclass(frozen=True, slots=True)
class StepResult:
    """Loss and gradient norm of one step, still on the device."""

    loss: Tensor  # a scalar, summed over the clicks
    gradient_norm: Tensor | None  # a scalar, before clipping; None where it was not measured


@dataclass(frozen=True, slots=True)
class TouchedRows:
    """Unique rows of a table that a step reads; `values` is a leaf of the autograd graph."""

    items: Tensor  # (rows,) int64
    values: Tensor  # (rows, …) float32

    @classmethod
    def of(cls, table: Tensor, items: Tensor) -> "TouchedRows":
        """Gather the rows of these items."""
        return cls(items, table.index_select(0, items).requires_grad_())

    def scored(self, candidates: CandidateSet) -> "TouchedRows":
        """Return the rows that were scored, with their gradients.

        An item that was an input only is no candidate: neither gradient nor momentum moves it.
        """
        if candidates.counts is None:
            return self
        scored = candidates.counts.log_counts.isfinite()
        rows = TouchedRows(self.items[scored], self.values.detach()[scored])
        rows.values.grad = gradient_of(self.values)[scored]
        return rows


@dataclass(frozen=True, slots=True)
class TouchedContent:
    """Content of the candidates of a step."""

    values: TouchedRows  # rows of the content's values
    projection: Tensor  # (columns, H + 1) float32
    rows: ContentRows  # of the candidates; their codes are rows of `values`

    @classmethod
    def of(cls, content: ContentWeights, items: Tensor) -> "TouchedContent":
        """Gather the content of these items."""
        rows = content.features.of_items(items)
        codes, indices = torch.unique(rows.codes, return_inverse=True)
        values = TouchedRows.of(content.values, codes)
        return cls(values, content.projection, dataclasses.replace(rows, codes=indices))

    def parts(self) -> tuple[Tensor, Tensor]:
        """Return the vectors and biases that the content gives, (C, H) and (C,) float32."""
        parts = self.rows.sum(self.values.values, self.projection)
        return parts[:, :-1], parts[:, -1]


@dataclass(frozen=True, slots=True)
class InputRows:
    """Rows of a separate input table, and the row of each click."""

    rows: TouchedRows
    indices: Tensor  # (clicks,) int64 into `rows`


@dataclass(frozen=True, slots=True)
class LearnedTargets:
    """Targets of a mini-batch that count in the loss; those of other event types do not."""

    of_all: NDArray[np.int64] | None = None  # (targets,) clicks of all processes; None for all
    of_own: Tensor | None = None  # (own targets,) among the own clicks; None for all
    places: Tensor | None = None  # (own targets,) among the learned ones; None for all
    weights: Tensor | None = None  # (own targets,) float32; None for 1

    def among(self, clicks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of an array of all clicks whose targets count."""
        return clicks if self.of_all is None else clicks[self.of_all]


class TrainingStep:
    """Training step over weights that it updates in place.

    It holds the optimizers, the moving average and `state`, the hidden state that session-parallel
    rows carry from step to step, (L, B, state width) float32.
    """

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        candidates: CandidateSampler,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        """Prepare optimizers and state.

        Args:
            weights: Weights on `device`, which training updates in place.
            recipe: Settings of the run.
            candidates: Chooses the items that a step scores.
            device: Where the step is computed.
            processes: They share the rows of each mini-batch.
        """
        self.weights = weights
        self.state = weights.model.initial_state(recipe.batch).to(device)
        self._recipe = recipe
        self._candidates = candidates
        self._device = device
        self._processes = processes
        self._loss = loss_of(recipe)
        self._target_weights = target_weights(recipe, weights.event_types.names)
        self._average = (
            ExponentialMovingAverage(weights, recipe.average) if recipe.average > 0 else None
        )
        self._matrix = optimizer_for(weights.matrix, recipe)
        self._bias = optimizer_for(weights.bias, recipe)
        self._inputs = None if weights.inputs is None else optimizer_for(weights.inputs, recipe)
        self._dense = {
            name: optimizer_for(parameter.data, recipe)
            for name, parameter in weights.model.named_parameters()
        }
        content = weights.content
        self._content: tuple[Optimizer, ...] = (
            ()
            if content is None
            else (
                optimizer_for(content.values, recipe),
                optimizer_for(content.projection.data, recipe),
            )
        )

    @property
    def result(self) -> Weights:
        """Return the weights to evaluate and export: the moving average if the recipe has one."""
        return self.weights if self._average is None else self._average.weights

    def begin_epoch(self) -> None:
        """Reset the carried state to zero."""
        self.state.zero_()

    def run(
        self,
        batch: Batch,
        random: RandomStreams,
        rate: float | None = None,
        *,
        measure: bool = False,
    ) -> StepResult:
        """Learn from one mini-batch.

        Args:
            batch: The clicks of the step, of all processes.
            random: Random numbers of this step, the same in all processes.
            rate: Learning rate of the step; None for that of the recipe.
            measure: Return the gradient's norm, also where the recipe clips nothing.

        Returns:
            The loss, summed over the clicks, and the norm of the gradient, both scalars on the
            device. They may be NaN or infinite: the caller checks.
        """
        part = batch.part_of(self._processes.rank, self._processes.size)
        own = None if part.clicks is None else self._on_device(part.clicks)
        inputs, learned = self._on_device(batch.inputs), self._learned(batch, part)
        targets = self._on_device(learned.among(batch.targets))
        # each target's row, where a row has several clicks
        rows = None
        if batch.state_rows is None:
            rows = self._on_device(learned.among(batch.row_of_click))
        candidates = self._candidates.sample(inputs, targets, rows, random, own, learned.places)
        items = TouchedRows.of(self.weights.matrix, candidates.items)
        biases = TouchedRows.of(self.weights.bias, candidates.items)
        separate = self._separate_inputs(inputs, own)
        content = self._touched_content(candidates)
        if len(part.batch) > 0:
            loss = self._differentiate(
                batch, part, learned, candidates, items, biases, separate, content, random
            )
        else:
            loss = self._without_clicks(items, biases, separate, content)

        touched = self._touched(candidates, items, biases, separate)
        self._add_up(touched, content, loss)
        norm = self._clip(touched) if measure or self._recipe.clip > 0 else None
        rate = self._recipe.learning_rate if rate is None else rate
        if content is not None:
            self._update_content(content, rate)
        self._update(touched, rate)
        return StepResult(loss, norm)

    def _differentiate(
        self,
        batch: Batch,
        part: BatchPart,
        learned: LearnedTargets,
        candidates: CandidateSet,
        items: TouchedRows,
        biases: TouchedRows,
        separate: InputRows | None,
        content: TouchedContent | None,
        random: RandomStreams,
    ) -> Tensor:
        """Compute the gradients of this process's clicks, and return their loss, a scalar."""
        vectors = unit_rows(items.values) if self._recipe.scale > 0 else items.values
        if separate is None:
            input_vectors = functional.embedding(candidates.input_indices, vectors)
        else:
            input_vectors = self._input_vectors(separate)
        types = self.weights.model.events
        if types is not None and part.batch.events is not None:
            events = self._on_device(part.batch.events)
            default = self.weights.event_types.numbers[None]  # its vector stays 0
            input_vectors = input_vectors + functional.embedding(events, types, default)
        hidden = self._hidden(input_vectors, batch, part, random)
        if learned.of_own is not None:
            hidden = hidden[learned.of_own]
        scores = self._scores(hidden, vectors, biases.values, candidates)
        loss = self._loss(scores, candidates.target_indices, candidates.counts, learned.weights)
        # the divisor is the recipe's batch, also when fewer rows are left
        torch.autograd.backward(loss / self._recipe.batch)
        if content is not None:
            own = vectors.detach(), biases.values.detach()
            hidden, weights = hidden.detach(), learned.weights
            self._differentiate_content(content, hidden, own, candidates, weights, random)
        return loss.detach()

    def _learned(self, batch: Batch, part: BatchPart) -> LearnedTargets:
        """Return the targets that count in the loss, all of them where types do not decide."""
        if self._target_weights is None or batch.target_events is None:
            own = None if part.clicks is None else self._on_device(part.clicks)
            return LearnedTargets(places=own)
        weights = self._target_weights[batch.target_events]
        counts = weights > 0
        own_clicks = np.arange(len(batch)) if part.clicks is None else part.clicks
        own_counts, places = counts[own_clicks], np.cumsum(counts) - 1
        return LearnedTargets(
            np.flatnonzero(counts),
            self._on_device(np.flatnonzero(own_counts)),
            None if part.clicks is None else self._on_device(places[own_clicks[own_counts]]),
            self._on_device(weights[own_clicks[own_counts]]),
        )

    def _differentiate_content(
        self,
        content: TouchedContent,
        hidden: Tensor,
        own: tuple[Tensor, Tensor],
        candidates: CandidateSet,
        weights: Tensor | None,
        random: RandomStreams,
    ) -> None:
        """Compute the gradients of the content.

        Args:
            content: Content of the candidates.
            hidden: (own targets, H) float32, without a gradient.
            own: Vectors and biases of the candidates, without a gradient. A share of them, drawn at
                random, is replaced by those of the content.
            candidates: The candidates.
            weights: (own targets,) float32, factors of the targets' losses; None for 1.
            random: Random numbers of this step; nothing else is drawn after these.
        """
        replaced = random.uniform(len(candidates.items)) < self._recipe.dropout_items
        vectors, biases = content.parts()
        vectors = unit_rows(vectors) if self._recipe.scale > 0 else vectors
        vectors = torch.where(replaced.unsqueeze(1), vectors, own[0])
        biases = torch.where(replaced, biases, own[1])
        scores = self._scores(hidden, vectors, biases, candidates)
        loss = self._loss(scores, candidates.target_indices, candidates.counts, weights)
        torch.autograd.backward(loss / self._recipe.batch)

    def _without_clicks(
        self,
        items: TouchedRows,
        biases: TouchedRows,
        separate: InputRows | None,
        content: TouchedContent | None,
    ) -> Tensor:
        """Set all gradients of a process that has no row of the mini-batch to zero."""
        touched = [items, biases] if separate is None else [items, biases, separate.rows]
        of_content = [] if content is None else [content.values.values, content.projection]
        of_model = list(self.weights.model.parameters())
        for leaf in [rows.values for rows in touched] + of_model + of_content:
            leaf.grad = torch.zeros_like(leaf)
        return torch.zeros((), device=self._device)

    def _on_device(self, array: NDArray[np.int64] | NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _separate_inputs(self, inputs: Tensor, own: Tensor | None) -> InputRows | None:
        """Gather the rows of the input table; None where inputs share the item matrix."""
        if self.weights.inputs is None:
            return None
        items, indices = torch.unique(inputs, return_inverse=True)
        rows = TouchedRows.of(self.weights.inputs, items)
        return InputRows(rows, indices if own is None else indices[own])

    def _touched_content(self, candidates: CandidateSet) -> TouchedContent | None:
        """Gather the content of the candidates, if there is any."""
        if self.weights.content is None:
            return None
        return TouchedContent.of(self.weights.content, candidates.items)

    def _input_vectors(self, separate: InputRows) -> Tensor:
        values = separate.rows.values
        normalized = self._recipe.scale > 0 and self.weights.model.embeds
        return functional.embedding(separate.indices, unit_rows(values) if normalized else values)

    def _hidden(
        self, vectors: Tensor, batch: Batch, part: BatchPart, random: RandomStreams
    ) -> Tensor:
        """Return the top layer's outputs, (own clicks, H), for (own clicks, input width) vectors.

        Session-parallel rows keep their new state for the next step.
        """
        recipe, model, own = self._recipe, self.weights.model, part.batch
        batch_sizes = torch.from_numpy(own.batch_sizes)
        shape = torch.Size((len(batch), vectors.size(1)))
        dropout_mask = _dropout_mask(shape, recipe.dropout_embedding, random, part.clicks)
        hidden = vectors if dropout_mask is None else vectors * dropout_mask
        last_states = []
        for cell, initial_state in zip(cells_of(model), self._initial_state(own), strict=True):
            shape = torch.Size((int(batch.batch_sizes[0]), recipe.hidden))
            dropout_mask = _dropout_mask(shape, recipe.dropout_hidden, random, part.rows)
            hidden, last_state = read_layer(cell, hidden, batch_sizes, initial_state, dropout_mask)
            last_states.append(last_state)
        if own.state_rows is not None:
            self.state[:, self._on_device(own.state_rows)] = torch.stack(last_states)
        return hidden

    def _initial_state(self, batch: Batch) -> Tensor:
        """Return the state before each row's first click, (L, rows, state width)."""
        if batch.state_rows is None or batch.is_new_session is None:
            return self.weights.model.initial_state(int(batch.batch_sizes[0])).to(self._device)
        rows, is_new_session = (
            torch.from_numpy(array).to(self._device)
            for array in (batch.state_rows, batch.is_new_session)
        )
        return self.state[:, rows].masked_fill(is_new_session.view(1, -1, 1), 0.0)

    def _scores(
        self, hidden: Tensor, vectors: Tensor, biases: Tensor, candidates: CandidateSet
    ) -> Tensor:
        """Return the candidates' scores, (clicks, C) float32, after the logQ correction."""
        if self._recipe.loss == "cross-entropy":
            biases = biases - candidates.logq_correction
        bfloat16 = self._recipe.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16):
            return self.weights.model.scores(vectors, biases, hidden).float()

    def _touched(
        self,
        candidates: CandidateSet,
        items: TouchedRows,
        biases: TouchedRows,
        separate: InputRows | None,
    ) -> list[tuple[TouchedRows, Optimizer]]:
        """Return the rows to update, each table with its optimizer."""
        touched = [(biases.scored(candidates), self._bias)]
        if separate is None or self._inputs is None:
            return [*touched, (items, self._matrix)]  # inputs and candidates share these rows
        return [*touched, (items.scored(candidates), self._matrix), (separate.rows, self._inputs)]

    def _add_up(
        self,
        touched: list[tuple[TouchedRows, Optimizer]],
        content: TouchedContent | None,
        loss: Tensor,
    ) -> None:
        """Add up gradients and loss over the processes."""
        if self._processes.size > 1:
            leaves = [rows.values for rows, _ in touched] + list(self.weights.model.parameters())
            if content is not None:
                leaves += [content.values.values, content.projection]
            self._processes.sum([*(gradient_of(leaf) for leaf in leaves), loss.view(1)])

    def _clip(self, touched: list[tuple[TouchedRows, Optimizer]]) -> Tensor:
        """Return the norm of the whole gradient, then scale it down to the recipe's limit."""
        leaves = [rows.values for rows, _ in touched] + list(self.weights.model.parameters())
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        if self._recipe.clip > 0:
            for gradient in gradients:
                gradient.mul_((self._recipe.clip / (norm + SMALL)).clamp(max=1.0))
        return norm

    def _update(self, touched: list[tuple[TouchedRows, Optimizer]], rate: float) -> None:
        for rows, optimizer in touched:
            values, gradient = rows.values.detach(), gradient_of(rows.values)
            if values.dim() == 2:  # item vectors; biases have neither L1 nor weight decay
                if self._recipe.l1 > 0:
                    gradient = gradient + self._recipe.l1 * values.sign()
                gradient = self._with_weight_decay(gradient, values)
            optimizer.step_rows(rows.items, values, gradient, rate)
        for name, parameter in self.weights.model.named_parameters():
            gradient = self._with_weight_decay(gradient_of(parameter), parameter.data)
            self._dense[name].step(gradient, rate)
            parameter.grad = None
        if self._average is not None:
            self._average.update()

    def _update_content(self, content: TouchedContent, rate: float) -> None:
        rows, gradient = content.values, gradient_of(content.values.values)
        of_values, of_projection = self._content
        of_values.step_rows(rows.items, rows.values.detach(), gradient, rate)
        of_projection.step(gradient_of(content.projection), rate)
        content.projection.grad = None

    def _with_weight_decay(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """Add L2 to the gradient; AdamW decays the weights itself."""
        if self._recipe.weight_decay == 0 or self._recipe.optimizer == "adamw":
            return gradient
        return gradient + self._recipe.weight_decay * weight

    def complete_state(self) -> None:
        """Collect the carried state of all rows, of which every process has its own."""
        rows = np.arange(self.state.size(1))
        own = rows_of_process(rows, self._processes.rank, self._processes.size)
        self.state[:, torch.from_numpy(~own).to(self._device)] = 0.0
        self._processes.sum([self.state])

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs beside the weights: state, optimizers, average."""
        tensors = {"state": self.state}
        optimizers = {"matrix": self._matrix, "bias": self._bias, **self._dense}
        if self._inputs is not None:
            optimizers["inputs"] = self._inputs
        if self._content:
            optimizers["content.values"], optimizers["content.projection"] = self._content
        for weight, optimizer in optimizers.items():
            for name, tensor in optimizer.tensors().items():
                tensors[f"{name}.{weight}"] = tensor
        if self._average is not None:
            tensors |= {f"average.{name}": t for name, t in self._average.tensors().items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy the tensors of a checkpoint into place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def gradient_of(leaf: Tensor) -> Tensor:
    """Return the gradient of a leaf of the autograd graph."""
    assert leaf.grad is not None, "backward has run, and every weight takes part"
    return leaf.grad


def _dropout_mask(
    shape: torch.Size, rate: float, random: RandomStreams, own: NDArray[np.int64] | None
) -> Tensor | None:
    """Return the own rows of a dropout mask of this shape; `own`: None for all.

    The result is None for a rate of 0, which consumes no random numbers.
    """
    if rate == 0:
        return None
    mask = random.dropout_mask(shape, rate)
    return mask if own is None else mask[torch.from_numpy(own).to(mask.device)]
