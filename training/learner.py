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
from recsys.model import ModelSize, SessionGRU, glorot, initialise
from training.losses import loss_of
from training.negatives import NegativeSampler
from training.optim import mover_of
from training.recipe import Recipe
from training.schedule import rate_at

SMALL = 1e-12  # a gradient of nothing is not divided by nothing


@dataclass
class Weights:
    """Everything that is learned: what a bundle ships and a checkpoint keeps."""

    model: SessionGRU
    matrix: Tensor  # (N, H) float32
    bias: Tensor  # (N,) float32

    @classmethod
    def fresh(cls, size: ModelSize, generator: torch.Generator) -> "Weights":
        model = SessionGRU(size.hidden, size.layers)
        initialise(model, generator)
        matrix = glorot(torch.Size((size.items, size.hidden)), generator)
        return cls(model, matrix, torch.zeros(size.items))

    def tensors(self) -> dict[str, Tensor]:
        named = {name: weight.detach() for name, weight in self.model.named_parameters()}
        return {"matrix": self.matrix, "bias": self.bias, **named}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def to(self, device: torch.device) -> "Weights":
        return Weights(self.model.to(device), self.matrix.to(device), self.bias.to(device))


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gave, still on the device."""

    loss: Tensor  # a scalar, summed over the batch
    gradient_norm: Tensor | None  # a scalar, before clipping


class Learner:
    """Learns from one batch after another; `state` is the (L, B, H) memory of its lanes."""

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        sampler: NegativeSampler,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.weights = weights
        self.state = torch.zeros(recipe.layers, recipe.batch, recipe.hidden, device=device)
        self._recipe = recipe
        self._sampler = sampler
        self._generator = generator
        self._device = device
        self._loss = loss_of(recipe)
        self._log_expected = sampler.log_expected(recipe.batch, recipe.negatives).to(device)
        self._matrix = mover_of(weights.matrix, recipe)
        self._bias = mover_of(weights.bias, recipe)
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
        unique, place = torch.unique(torch.cat([clicked, columns]), return_inverse=True)
        rows = self.weights.matrix[unique].requires_grad_()  # (U, H)
        biases = self.weights.bias[unique].requires_grad_()  # (U,)
        before = self.state[:, lanes].masked_fill(fresh.view(1, -1, 1), 0.0)  # (L, b, H)

        sizes = [len(lanes), len(columns)]
        # split, not slices: the gradient of a slice is a whole table of zeros
        inputs, targets = torch.split(functional.embedding(place, rows), sizes)  # (b, H), (b+S, H)
        read, after = self._forward(inputs, before)
        column_bias = functional.embedding(place[len(lanes) :], biases.unsqueeze(1)).squeeze(1)
        scores = torch.addmm(column_bias, read, targets.t())  # (b, b+S)
        loss = self._loss(scores, columns, self._log_expected[columns])
        # divided by the configured batch, also when lanes have ended
        torch.autograd.backward(loss / self._recipe.batch)

        self.state[:, lanes] = after
        norm = self._bounded(rows, biases) if measure or self._recipe.clip > 0 else None
        self._update(unique, rows, biases, rate_at(self._recipe, share))
        return Step(loss.detach(), norm)

    def _forward(self, clicked: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """clicked: (b, H), before: (L, b, H) → top layer's output (b, H), next state (L, b, H)."""
        recipe, gru = self._recipe, self.weights.model.gru
        read = self._dropped(clicked, recipe.dropout_embedding)
        after = []
        for layer in range(recipe.layers):
            gates = (getattr(gru, f"{name}_l{layer}") for name in _GATES)
            read = self._dropped(torch.gru_cell(read, before[layer], *gates), recipe.dropout_hidden)
            after.append(read.detach())
        return read, torch.stack(after)

    def _dropped(self, values: Tensor, rate: float) -> Tensor:
        """Inverted dropout from our own generator, so that a resumed run draws the same masks."""
        if rate == 0:
            return values
        kept = torch.rand(values.shape, generator=self._generator).to(self._device) >= rate
        return values * (kept / (1 - rate))

    def _bounded(self, rows: Tensor, biases: Tensor) -> Tensor:
        """The norm of the whole gradient, which is then no longer than the recipe's clip."""
        gradients = [
            tensor.grad
            for tensor in (rows, biases, *self.weights.model.parameters())
            if tensor.grad is not None
        ]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        if self._recipe.clip > 0:
            for gradient in gradients:
                gradient.mul_((self._recipe.clip / (norm + SMALL)).clamp(max=1.0))
        return norm

    def _update(self, unique: Tensor, rows: Tensor, biases: Tensor, rate: float) -> None:
        assert rows.grad is not None, "backward has run"
        assert biases.grad is not None, "backward has run"
        recipe, values = self._recipe, rows.detach()
        gradient = rows.grad
        if recipe.l1 > 0:
            gradient = gradient + recipe.l1 * values.sign()
        self._matrix.step_rows(unique, values, self._decayed(gradient, values), rate)
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
        for owner, mover in movers.items():
            for name, tensor in mover.tensors().items():
                kept[f"{name}.{owner}"] = tensor
        return kept

    def load(self, tensors: dict[str, Tensor]) -> None:
        self._generator.set_state(tensors["random"].cpu())
        for name, tensor in self.tensors().items():
            if name != "random":
                tensor.copy_(tensors[name])


_GATES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
