"""One training step: rows in, scores of the sampled columns, loss, gradients, rows back.

Only the rows of the item matrix that a batch touches (inputs, targets, negatives) are gathered,
differentiated and updated. The state is carried from step to step without its gradient, so a
gradient spans one step, as the paper has it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from data.batches import Batch
from recsys.cells import glorot
from recsys.model import ModelSize, SessionRNN, initialise, unit
from training.losses import loss_of
from training.negatives import NegativeSampler
from training.optim import Mover, mover_of
from training.recipe import Recipe
from training.schedule import rate_at

SMALL = 1e-12  # a gradient of nothing is not divided by nothing


@dataclass
class Weights:
    """Everything that is learned: what a bundle ships and a checkpoint keeps."""

    model: SessionRNN
    matrix: Tensor  # (N, H) float32
    bias: Tensor  # (N,) float32
    inputs: Tensor | None = None  # (N, X) float32, None where it is the matrix

    @classmethod
    def fresh(cls, size: ModelSize, generator: torch.Generator) -> "Weights":
        model = SessionRNN(size)
        initialise(model, generator)
        matrix = glorot(torch.Size((size.items, size.hidden)), generator)
        return cls(model, matrix, torch.zeros(size.items), _fresh_inputs(size, generator))

    def tensors(self) -> dict[str, Tensor]:
        named = {name: weight.detach() for name, weight in self.model.named_parameters()}
        own = {} if self.inputs is None else {"inputs": self.inputs}
        return {"matrix": self.matrix, "bias": self.bias, **own, **named}

    def shipped(self) -> "Weights":
        """What a bundle holds: with cosine scores, item vectors of length 1."""
        if self.model.scale == 0:
            return self
        inputs = self.inputs
        if inputs is not None and self.model.embeds:
            inputs = unit(inputs)
        return Weights(self.model, unit(self.matrix), self.bias, inputs)

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def to(self, device: torch.device) -> "Weights":
        inputs = None if self.inputs is None else self.inputs.to(device)
        return Weights(self.model.to(device), self.matrix.to(device), self.bias.to(device), inputs)


def _fresh_inputs(size: ModelSize, generator: torch.Generator) -> Tensor | None:
    """A separate embedding, or one-hot weights, where each gate is a matrix of its own."""
    if size.inputs_shape is None:
        return None
    items, width = size.inputs_shape
    gates = width // size.hidden if size.embedding == "none" else 1
    one = torch.Size((items, width // gates))
    return torch.cat([glorot(one, generator) for _ in range(gates)], dim=1)


@dataclass(frozen=True, slots=True)
class Touched:
    """The rows of a table that a batch touches, each once; a leaf of the gradient."""

    unique: Tensor  # (U,) int64 item indices
    place: Tensor  # (uses,) int64, where each use finds its row
    rows: Tensor  # (U, width)

    @classmethod
    def of(cls, table: Tensor, items: Tensor) -> "Touched":
        """items: (uses,) int64, some perhaps more than once."""
        unique, place = torch.unique(items, return_inverse=True)
        return cls(unique, place, table[unique].requires_grad_())

    def uses(self, *, unit_rows: bool) -> Tensor:
        """(uses, width): the row of every use, normalised where asked."""
        return functional.embedding(self.place, unit(self.rows) if unit_rows else self.rows)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gave, still on the device."""

    loss: Tensor  # a scalar, summed over the batch
    gradient_norm: Tensor | None  # a scalar, before clipping


class Learner:
    """Learns from one batch after another; `state` is the (L, B, W) memory of its lanes."""

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        sampler: NegativeSampler,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.weights = weights
        self.state = weights.model.blank(recipe.batch).to(device)
        self._recipe = recipe
        self._sampler = sampler
        self._generator = generator
        self._device = device
        self._loss = loss_of(recipe)
        self._log_expected = sampler.log_expected(recipe.batch, recipe.negatives).to(device)
        self._matrix = mover_of(weights.matrix, recipe)
        self._bias = mover_of(weights.bias, recipe)
        self._inputs = None if weights.inputs is None else mover_of(weights.inputs, recipe)
        self._dense = {
            name: mover_of(parameter.data, recipe)
            for name, parameter in weights.model.named_parameters()
        }

    def begin_epoch(self) -> None:
        self.state.zero_()

    def learn(self, batch: Batch, share: float = 0.0, *, measure: bool = False) -> Step:
        """One step, when `share` of the run is done; `measure` asks for the gradient's norm."""
        clicked, following, lanes, fresh = (
            torch.from_numpy(part).to(self._device)
            for part in (batch.clicked, batch.following, batch.lanes, batch.fresh)
        )
        negatives = self._sampler.draw(self._recipe.negatives).to(self._device)
        columns = torch.cat([following, negatives])  # (b+S,)
        model, table, cosine = self.weights.model, self.weights.inputs, self._recipe.scale > 0
        own = None if table is None else Touched.of(table, clicked)
        uses = torch.cat([clicked, columns]) if own is None else columns
        items = Touched.of(self.weights.matrix, uses)
        biases = self.weights.bias[items.unique].requires_grad_()  # (U,)
        before = self.state[:, lanes].masked_fill(fresh.view(1, -1, 1), 0.0)  # (L, b, W)

        targets = items.uses(unit_rows=cosine)  # (b+S, H)
        if own is None:
            # split, not slices: the gradient of a slice is a whole table of zeros
            inputs, targets = torch.split(targets, [len(lanes), len(columns)])
        else:
            inputs = own.uses(unit_rows=cosine and model.embeds)  # (b, X)
        read, after = self._forward(inputs, before)
        place = items.place[-len(columns) :]
        column_bias = functional.embedding(place, biases.unsqueeze(1)).squeeze(1)
        scores = model.scores(targets, column_bias, read)  # (b, b+S)
        loss = self._loss(scores, columns, self._log_expected[columns])
        # divided by the configured batch, also when lanes have ended
        torch.autograd.backward(loss / self._recipe.batch)

        self.state[:, lanes] = after
        norm = self._bounded(items, biases, own) if measure or self._recipe.clip > 0 else None
        rate = rate_at(self._recipe, share)
        self._update_rows(items, self._matrix, rate)
        if own is not None and self._inputs is not None:
            self._update_rows(own, self._inputs, rate)
        self._update(items.unique, biases, rate)
        return Step(loss.detach(), norm)

    def _forward(self, clicked: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """clicked: (b, X), before: (L, b, W) → top layer's output (b, H), next state (L, b, W)."""
        recipe = self._recipe
        read = self._dropped(clicked, recipe.dropout_embedding)
        widths = torch.tensor([len(read)])
        after = []
        for cell, state in zip(self.weights.model.cells, before, strict=True):
            read, state = cell(read, widths, state)
            read = self._dropped(read, recipe.dropout_hidden)
            # an output is carried as the next layer saw it; an LSTM's memory drops nothing
            after.append(torch.cat([read, state[:, recipe.hidden :]], dim=1).detach())
        return read, torch.stack(after)

    def _dropped(self, values: Tensor, rate: float) -> Tensor:
        """Inverted dropout from our own generator, so that a resumed run draws the same masks."""
        if rate == 0:
            return values
        kept = torch.rand(values.shape, generator=self._generator).to(self._device) >= rate
        return values * (kept / (1 - rate))

    def _bounded(self, items: Touched, biases: Tensor, own: Touched | None) -> Tensor:
        """The norm of the whole gradient, which is then no longer than the recipe's clip."""
        leaves = [items.rows, biases, *self.weights.model.parameters()]
        leaves += [] if own is None else [own.rows]
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        if self._recipe.clip > 0:
            for gradient in gradients:
                gradient.mul_((self._recipe.clip / (norm + SMALL)).clamp(max=1.0))
        return norm

    def _update_rows(self, touched: Touched, mover: Mover, rate: float) -> None:
        assert touched.rows.grad is not None, "backward has run"
        values, gradient = touched.rows.detach(), touched.rows.grad
        if self._recipe.l1 > 0:
            gradient = gradient + self._recipe.l1 * values.sign()
        mover.step_rows(touched.unique, values, self._decayed(gradient, values), rate)

    def _update(self, unique: Tensor, biases: Tensor, rate: float) -> None:
        assert biases.grad is not None, "backward has run"
        self._bias.step_rows(unique, biases.detach(), biases.grad, rate)
        for name, parameter in self.weights.model.named_parameters():
            assert parameter.grad is not None, "every recurrent weight takes part"
            self._dense[name].step(self._decayed(parameter.grad, parameter.data), rate)
            parameter.grad = None

    def _decayed(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """L2 in the gradient; AdamW decays the weights itself."""
        if self._recipe.weight_decay == 0 or self._recipe.optimiser == "adamw":
            return gradient
        return gradient + self._recipe.weight_decay * weight

    def tensors(self) -> dict[str, Tensor]:
        """All a checkpoint needs to go on bit for bit: state, optimiser, randomness."""
        kept = {"state": self.state, "random": self._generator.get_state()}
        movers = {"matrix": self._matrix, "bias": self._bias, **self._dense}
        if self._inputs is not None:
            movers["inputs"] = self._inputs
        for owner, mover in movers.items():
            for name, tensor in mover.tensors().items():
                kept[f"{name}.{owner}"] = tensor
        return kept

    def load(self, tensors: dict[str, Tensor]) -> None:
        self._generator.set_state(tensors["random"].cpu())
        for name, tensor in self.tensors().items():
            if name != "random":
                tensor.copy_(tensors[name])
