"""One training step: rows in, scores of the step's columns, loss, gradients, rows back.

Only the rows of the item matrix that a step needs (clicks, targets, negatives) are gathered,
differentiated and updated. Whole sessions are read from zero, lanes from the state that they carry;
either way a gradient spans one click, as the paper has it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from data.batches import Batch
from recsys.model.gru4rec import cells_of, unit
from training.model.gru_backward import read_layer
from training.model.losses import loss_of
from training.model.optim import (
    ExponentialMovingAverage,
    Optimizer,
    learning_rate_at,
    optimizer_for,
)
from training.model.sampling import CandidateSampler, CandidateSet, RandomStreams
from training.model.weights import Weights
from training.recipe import Recipe

SMALL = 1e-12  # a gradient of nothing is not divided by nothing


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step gave, still on the device."""

    loss: Tensor  # a scalar, summed over the events
    gradient_norm: Tensor | None  # a scalar, before clipping


@dataclass(frozen=True, slots=True)
class TouchedRows:
    """The rows of a table that a step needs, each once; `values` is a leaf of the gradient."""

    items: Tensor  # (R,) int64
    values: Tensor  # (R, …)

    @classmethod
    def of(cls, table: Tensor, items: Tensor) -> "TouchedRows":
        return cls(items, table.index_select(0, items).requires_grad_())

    def of_columns(self, chosen: CandidateSet) -> "TouchedRows":
        """Those that were scored: an item that was only clicked keeps its place, also in motion."""
        if chosen.counts is None:
            return self
        scored = chosen.counts.columns.isfinite()
        some = TouchedRows(self.items[scored], self.values.detach()[scored])
        assert self.values.grad is not None, "backward has run"
        some.values.grad = self.values.grad[scored]
        return some


class TrainingStep:
    """Learns from one step after another; `state` is the (L, B, W) memory of its lanes."""

    def __init__(
        self, weights: Weights, recipe: Recipe, columns: CandidateSampler, device: torch.device
    ) -> None:
        self.weights = weights
        self.state = weights.model.initial_state(recipe.batch).to(device)
        self._recipe = recipe
        self._columns = columns
        self._device = device
        self._loss = loss_of(recipe)
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

    @property
    def result(self) -> Weights:
        """What is evaluated and shipped: the weights, or their average."""
        return self.weights if self._average is None else self._average.weights

    def begin_epoch(self) -> None:
        self.state.zero_()

    def learn(
        self, batch: Batch, draws: RandomStreams, share: float = 0.0, *, measure: bool = False
    ) -> StepResult:
        """One step, when `share` of the run is done; `measure` asks for the gradient's norm."""
        clicked = torch.from_numpy(batch.clicked).to(self._device)
        following = torch.from_numpy(batch.following).to(self._device)
        sessions = (
            None if batch.lanes is not None else torch.from_numpy(batch.rows).to(self._device)
        )
        chosen = self._columns.choose(clicked, following, sessions, draws)
        items = TouchedRows.of(self.weights.matrix, chosen.items)
        biases = TouchedRows.of(self.weights.bias, chosen.items)
        own = self._own_inputs(clicked)

        vectors = unit(items.values) if self._recipe.scale > 0 else items.values
        inputs = self._input_vectors(own) if own else functional.embedding(chosen.clicked, vectors)
        read = self._read(inputs, batch, draws)
        scores = self._scores(read, vectors, biases.values, chosen)
        loss = self._loss(scores, chosen.target, chosen.counts)
        # divided by the configured batch, also when lanes have ended
        torch.autograd.backward(loss / self._recipe.batch)

        touched = [(biases.of_columns(chosen), self._bias)]
        if own is None or self._inputs is None:
            touched.append((items, self._matrix))  # read and scored in one
        else:
            touched += [(items.of_columns(chosen), self._matrix), (own[0], self._inputs)]
        norm = self._bounded(touched) if measure or self._recipe.clip > 0 else None
        self._update(touched, learning_rate_at(self._recipe, share))
        return StepResult(loss.detach(), norm)

    def _own_inputs(self, clicked: Tensor) -> tuple[TouchedRows, Tensor] | None:
        """Rows of the input table and each click's place among them; None where it is shared."""
        if self.weights.inputs is None:
            return None
        items, place = torch.unique(clicked, return_inverse=True)
        return TouchedRows.of(self.weights.inputs, items), place

    def _input_vectors(self, own: tuple[TouchedRows, Tensor]) -> Tensor:
        rows, place = own
        normalised = self._recipe.scale > 0 and self.weights.model.embeds
        return functional.embedding(place, unit(rows.values) if normalised else rows.values)

    def _read(self, inputs: Tensor, batch: Batch, draws: RandomStreams) -> Tensor:
        """inputs: (E, X) → the top layer's outputs (E, H); lanes carry their new state."""
        recipe, model = self._recipe, self.weights.model
        widths = torch.from_numpy(batch.widths)
        kept = _kept(inputs.shape, recipe.dropout_embedding, draws)
        read = inputs if kept is None else inputs * kept
        after = []
        for cell, state in zip(cells_of(model), self._before(batch), strict=True):
            outputs = torch.Size((len(batch), recipe.hidden))
            kept = _kept(outputs, recipe.dropout_hidden, draws)
            read, state = read_layer(cell, read, widths, state, kept)
            after.append(state)
        if batch.lanes is not None:
            self.state[:, torch.from_numpy(batch.lanes).to(self._device)] = torch.stack(after)
        return read

    def _before(self, batch: Batch) -> Tensor:
        """The state each row begins with: (L, widths[0], W)."""
        if batch.lanes is None or batch.fresh is None:
            return self.weights.model.initial_state(int(batch.widths[0])).to(self._device)
        lanes, fresh = (torch.from_numpy(t).to(self._device) for t in (batch.lanes, batch.fresh))
        return self.state[:, lanes].masked_fill(fresh.view(1, -1, 1), 0.0)

    def _scores(
        self, read: Tensor, vectors: Tensor, biases: Tensor, chosen: CandidateSet
    ) -> Tensor:
        """(E, C) scores of the columns, less what logQ subtracts."""
        if self._recipe.loss == "cross-entropy":
            biases = biases - chosen.correction
        bfloat16 = self._recipe.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16):
            return self.weights.model.scores(vectors, biases, read).float()

    def _bounded(self, touched: list[tuple[TouchedRows, Optimizer]]) -> Tensor:
        """The norm of the whole gradient, which is then no longer than the recipe's clip."""
        leaves = [rows.values for rows, _ in touched] + list(self.weights.model.parameters())
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        if self._recipe.clip > 0:
            for gradient in gradients:
                gradient.mul_((self._recipe.clip / (norm + SMALL)).clamp(max=1.0))
        return norm

    def _update(self, touched: list[tuple[TouchedRows, Optimizer]], rate: float) -> None:
        for rows, mover in touched:
            assert rows.values.grad is not None, "backward has run"
            values, gradient = rows.values.detach(), rows.values.grad
            if values.dim() == 2:  # item vectors; biases are neither shrunk nor decayed
                if self._recipe.l1 > 0:
                    gradient = gradient + self._recipe.l1 * values.sign()
                gradient = self._decayed(gradient, values)
            mover.step_rows(rows.items, values, gradient, rate)
        for name, parameter in self.weights.model.named_parameters():
            assert parameter.grad is not None, "every recurrent weight takes part"
            self._dense[name].step(self._decayed(parameter.grad, parameter.data), rate)
            parameter.grad = None
        if self._average is not None:
            self._average.follow()

    def _decayed(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """L2 in the gradient; AdamW decays the weights itself."""
        if self._recipe.weight_decay == 0 or self._recipe.optimiser == "adamw":
            return gradient
        return gradient + self._recipe.weight_decay * weight

    def tensors(self) -> dict[str, Tensor]:
        """All a checkpoint needs beside the weights: state, optimiser, average."""
        kept = {"state": self.state}
        movers = {"matrix": self._matrix, "bias": self._bias, **self._dense}
        if self._inputs is not None:
            movers["inputs"] = self._inputs
        for owner, mover in movers.items():
            for name, tensor in mover.tensors().items():
                kept[f"{name}.{owner}"] = tensor
        if self._average is not None:
            kept |= {f"average.{name}": t for name, t in self._average.tensors().items()}
        return kept

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def _kept(shape: torch.Size, rate: float, draws: RandomStreams) -> Tensor | None:
    """Dropout's factors; None where nothing is dropped."""
    return None if rate == 0 else draws.kept(shape, rate)
