"""Everything that is learned: what a bundle ships and a checkpoint keeps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.model.cells import glorot
from recsys.model.gru4rec import ModelSize, SessionRNN, initialise, unit
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor
from training.recipe import Recipe


@dataclass
class Weights:
    """The recurrent model and the item tables."""

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


def eager_predictor(
    weights: Weights, catalogue: Catalogue, recipe: Recipe, blend: Blend | None = None
) -> Predictor:
    """The same predictor that serves, over weights that are not exported yet."""
    shipped = weights.shipped()
    return Predictor(
        shipped.model,
        shipped.matrix,
        shipped.bias,
        catalogue,
        inputs=shipped.inputs,
        layers=shipped.model.layers,
        state_width=shipped.model.state_width,
        window=recipe.window,
        blend=blend,
    )
