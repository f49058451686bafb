"""Trained weights: the recurrent model and the item tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.content.encoder import ContentEncoder
from recsys.content.new_items import NewItemTerm
from recsys.model.cells import glorot
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import ModelSize, SessionRNN, initialise, unit
from recsys.model.recent_popularity import RecentPopularity
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor
from training.model.content import ContentWeights
from training.recipe import Recipe


@dataclass
class Weights:
    """Recurrent model and item tables of one model.

    With content, the tables have the rows of the items with clicks alone; those of the items
    without a click are made of content (`exported`).
    """

    model: SessionRNN
    matrix: Tensor  # (N, H) float32, item vectors
    bias: Tensor  # (N,) float32
    inputs: Tensor | None = None  # (N, input width) float32; None where inputs use the matrix
    event_types: EventTypes = NO_EVENT_TYPES  # of the clicks that the model reads
    content: ContentWeights | None = None
    is_exported: bool = False  # the tables are those of a bundle

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
        content = {} if self.content is None else self.content.tensors()
        return {"matrix": self.matrix, "bias": self.bias, **separate, **content, **named}

    def exported(self, encoder: ContentEncoder | None = None) -> "Weights":
        """Return the weights as a bundle holds them.

        The item tables have rows for the items without a click, too. Where scores are cosines, the
        vectors of the others have length 1. Weights that were read from a bundle stay as they are.

        Args:
            encoder: It places the items without a click; needed with content.
        """
        if self.is_exported:
            return self
        matrix, bias, inputs = self.matrix, self.bias, self.inputs
        if self.model.scale > 0:
            matrix = unit(matrix)
            inputs = unit(inputs) if inputs is not None and self.model.embeds else inputs
        if self.content is not None:
            assert encoder is not None, "items without a click are placed"
            vectors, biases = encoder.place(self.content.parts(len(bias)))
            matrix, bias = torch.cat([matrix, vectors]), torch.cat([bias, biases])
        return replace(
            self, matrix=matrix, bias=bias, inputs=inputs, content=None, is_exported=True
        )

    def with_hidden(self, items: int) -> "Weights":
        """Return the weights of so many items, of which those without a click cannot be listed."""
        if self.content is None:
            return self
        hidden = items - len(self.bias)
        matrix = torch.cat([self.matrix, self.matrix.new_zeros(hidden, self.matrix.size(1))])
        bias = torch.cat([self.bias, self.bias.new_full((hidden,), -torch.inf)])
        return replace(self, matrix=matrix, bias=bias, content=None)

    def with_new_items(self, term: NewItemTerm | None) -> "Weights":
        """Return the weights with this term of new items; None for those without content."""
        if self.content is None or term is None:
            return self
        return replace(self, content=replace(self.content, new_items=term))

    def encoder(self, attributes: Sequence[str]) -> ContentEncoder | None:
        """Return the encoder of new items, None without content; attributes: of the catalogue."""
        if self.content is None:
            return None
        normalizes = self.model.scale > 0
        return self.content.encoder(
            self.matrix, self.bias, normalizes=normalizes, others=attributes
        )

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy these tensors into the weights, by name."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def to(self, device: torch.device) -> "Weights":
        """Return the weights on this device; the recurrent model itself moves."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        content = None if self.content is None else self.content.to(device)
        matrix, bias = self.matrix.to(device), self.bias.to(device)
        model = self.model.to(device)
        return replace(self, model=model, matrix=matrix, bias=bias, inputs=inputs, content=content)


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
    """Return the predictor of the service over these weights, exported or not."""
    content = weights.encoder(sorted(catalogue.attributes))
    exported = weights.exported(content)
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
        content=content,
    )
