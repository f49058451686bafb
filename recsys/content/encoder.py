"""Encoder of content: places items that appear after training among the items of a bundle."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.content.model import ContentFunction
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import (
    Attributes,
    ContentSchema,
    Vectors,
    standardised,
)
from recsys.model.gru4rec import unit
from recsys.ragged import offsets_of

Item = tuple[Attributes, Vectors]


@dataclass(frozen=True)
class ContentTables:
    """Learned numbers of the content, and how its dense numbers are standardised."""

    values: Tensor  # (rows, H + 1) float32
    projection: Tensor  # (columns, H + 1) float32
    center: Tensor  # (columns,) float32
    factor: Tensor  # (columns,) float32


class ContentEncoder:
    """Content of new items → rows of the item matrix and biases."""

    def __init__(
        self,
        schema: ContentSchema,
        tables: ContentTables,
        function: ContentFunction,
        *,
        bias: float,
        normalizes: bool,
        new_items: NewItemTerm,
        others: Collection[str] = (),
    ) -> None:
        """Join the parts of a bundle.

        Args:
            schema: the fields.
            tables: their learned numbers.
            function: the formula, eager or scripted.
            bias: mean content part of the biases of the items with clicks.
            new_items: what is added to the biases of new items.
            normalizes: rows of the item matrix have length 1.
            others: further attributes of the items, which have no part in their vectors.
        """
        self.schema = schema
        self.tables = tables
        self.mean_bias = bias
        self.new_items = new_items
        self._function = function
        self._normalizes = normalizes
        self._others = frozenset(others)

    @property
    def bias(self) -> float:
        """Return the bias of a new item of which nothing is known; `biases` knows better."""
        return self.mean_bias + self.new_items.shift

    def check(self, attributes: Attributes, vectors: Vectors) -> None:
        """Check the content of one item.

        Args:
            attributes: name → value: a text, a number or true/false for a categorical attribute, a
                list of these for a multi-valued one, a number for a numeric one, epoch seconds,
                milliseconds or ISO 8601 for a time. None, as a name left out, is missing.
            vectors: name → numbers.

        Raises:
            WrongContent: a name is unknown, a value has the wrong type, a vector another length or
                a number that is not finite. `field` names it: attributes.price, vectors.image.
        """
        self.schema.check(attributes, vectors, self._others)

    def encode(self, items: Sequence[Item]) -> Tensor:
        """Return the vectors of new items.

        Args:
            items: B pairs of attributes and vectors that `check` accepts.

        Returns:
            (B, H) float32, scaled as the rows of the item matrix are.
        """
        vectors = self._content(items)[:, :-1]
        return unit(vectors) if self._normalizes else vectors.contiguous()

    def biases(self, items: Sequence[Item]) -> Tensor:
        """Return the biases of new items, (B,) float32; items: as for `encode`."""
        return self._content(items)[:, -1] + self.new_items.shift

    def examples(self) -> Tensor:
        """Return the content parts of an unknown item and of one with every field."""
        schema, center = self.schema, self.tables.center.tolist()
        attributes: dict[str, object] = {}
        vectors: dict[str, list[float]] = {}
        for field, _, column in schema.starts():
            if field.has_values:
                attributes[field.name] = field.values[-1] if field.values else ""
            elif field.kind == "numeric":
                attributes[field.name] = center[column] + 1
            elif field.kind == "vector":
                vectors[field.name] = [1.0] * field.length
        return self._content([({}, {}), (attributes, vectors)])

    @torch.inference_mode()
    def _content(self, items: Sequence[Item]) -> Tensor:
        tables = self.tables
        entries = [self.schema.entries(attributes) for attributes, _ in items]
        dense = np.stack([self.schema.dense(*item) for item in items])
        scaled = standardised(dense, tables.center.numpy(), tables.factor.numpy())
        return self._function(
            tables.values,
            tables.projection,
            torch.tensor([row for rows, _ in entries for row in rows], dtype=torch.int64),
            torch.from_numpy(offsets_of(np.array([len(rows) for rows, _ in entries]))),
            torch.tensor([weight for _, weights in entries for weight in weights]),
            torch.from_numpy(scaled),
        )
