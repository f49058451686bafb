"""Trained weights: the recurrent model and the item tables."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.model.cells import glorot
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import ModelSize, SessionRNN, initialise, unit
from recsys.model.recent_popularity import RecentPopularity
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor
from training.recipe import Recipe


@dataclass
class Weights:
    """Recurrent model and item tables of one model."""

    model: SessionRNN
    matrix: Tensor  # (N, H) float32, item vectors
    bias: Tensor  # (N,) float32
    inputs: Tensor | None = None  # (N, input width) float32; None where inputs use the matrix
    event_types: EventTypes = NO_EVENT_TYPES  # of the clicks that the model reads

    @classmethod
    def fresh(
        cls,
        size: ModelSize,
        generator: torch.Generator,
        event_types: EventTypes = NO_EVENT_TYPES,
    ) -> "Weights":
        """Return random weights of this size (Glorot uniform; biases and event types are 0).

        Source: Glorot and Bengio, AISTATS 2010, section 4.2.1.
        """
        model = SessionRNN(size)
        initialise(model, generator)
        matrix = glorot(torch.Size((size.items, size.hidden)), generator)
        inputs = _random_inputs(size, generator)
        return cls(model, matrix, torch.zeros(size.items), inputs, event_types)

    def tensors(self) -> dict[str, Tensor]:
        """Return every weight by its name in bundles and checkpoints, without gradients."""
        named = {name: weight.detach() for name, weight in self.model.named_parameters()}
        separate = {} if self.inputs is None else {"inputs": self.inputs}
        return {"matrix": self.matrix, "bias": self.bias, **separate, **named}

    def exported(self) -> "Weights":
        """Return the weights as a bundle holds them: unit item vectors where scores are cosines."""
        if self.model.scale == 0:
            return self
        inputs = self.inputs
        if inputs is not None and self.model.embeds:
            inputs = unit(inputs)
        return Weights(self.model, unit(self.matrix), self.bias, inputs, self.event_types)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy these tensors into the weights, by name."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def to(self, device: torch.device) -> "Weights":
        """Return the weights on this device; the recurrent model itself moves."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        tables = self.matrix.to(device), self.bias.to(device)
        return Weights(self.model.to(device), *tables, inputs, self.event_types)


def _random_inputs(size: ModelSize, generator: torch.Generator) -> Tensor | None:
    """Return a separate embedding, or one-hot weights, drawn gate by gate."""
    if size.inputs_shape is None:
        return None
    items, width = size.inputs_shape
    gates = width // size.hidden if size.embedding == "none" else 1
    shape = torch.Size((items, width // gates))
    return torch.cat([glorot(shape, generator) for _ in range(gates)], dim=1)


def eager_predictor(
    weights: Weights,
    catalogue: Catalogue,
    recipe: Recipe,
    blend: Blend | None = None,
    repeats: RepeatTerm | None = None,
    recent: RecentPopularity | None = None,
) -> Predictor:
    """Return the predictor of the service over weights that are not exported yet."""
    exported = weights.exported()
    return Predictor(
        exported.model,
        exported.matrix,
        exported.bias,
        catalogue,
        inputs=exported.inputs,
        layers=exported.model.layers,
        state_width=exported.model.state_width,
        window=recipe.window,
        repeats=repeats,
        blend=blend,
        recent=recent,
        event_types=weights.event_types,
    )
