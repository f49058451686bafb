"""Encoder of content: places items that appear after training among the items of a bundle."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.content.model import ContentFunction
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import (
    SEPARATOR,
    Attributes,
    ContentSchema,
    Vectors,
    standardised,
)
from recsys.content.similar_items import ClickedContents
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
        normalizes: bool,
        new_items: NewItemTerm,
        similar: ClickedContents | None = None,
        others: Collection[str] = (),
    ) -> None:
        """Join the parts of a bundle.

        Args:
            schema: the fields.
            tables: their learned numbers.
            function: the formula, eager or scripted.
            normalizes: items with clicks have vectors of length 1.
            new_items: what is added to the biases of new items.
            similar: items with clicks among which a new item stands; None in bundles without them,
                whose new items have the content part itself.
            others: further attributes of the items, which have no part in their vectors.
        """
        self.schema = schema
        self.tables = tables
        self.new_items = new_items
        self.similar = similar
        self._function = function
        self._normalizes = normalizes
        self._others = frozenset(others)

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

    def encode(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Return the vectors and the biases of new items.

        Args:
            items: B pairs of attributes and vectors that `check` accepts.

        Returns:
            (B, H) float32, and (B,) float32.
        """
        return self.place(self._content(items))

    def place(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors and the biases of items with these content parts, as `encode` does.

        Args:
            parts: (B, H + 1) float32.
        """
        vectors, biases = parts[:, :-1].contiguous(), parts[:, -1]
        if self._normalizes:
            vectors = unit(vectors)
        if self.similar is not None:
            vectors, biases = self.similar.place(parts, vectors)
        return vectors, biases + self.new_items.shift

    def examples(self) -> Tensor:
        """Return the content parts of an unknown item and of one with every field."""
        schema, center = self.schema, self.tables.center.tolist()
        attributes: dict[str, object] = {}
        vectors: dict[str, list[float]] = {}
        for field, column in schema.columns_of():
            if field.has_values:
                attributes[field.name] = field.values[-1] if field.values else ""
            elif field.kind == "numeric":
                attributes[field.name] = center[column] + 1
            elif field.kind == "vector":
                vectors[field.name] = [1.0] * field.length
        for cross in schema.crosses:
            if cross.values:
                texts = cross.values[-1].split(SEPARATOR)
                attributes |= dict(zip(cross.names, texts, strict=False))
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
