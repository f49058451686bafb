"""New items: items that a bundle does not have, with vectors computed from their content.

They stand in a small table beside the item matrix, which stays one memory-mapped copy for all
processes. The N items of the bundle come first, so new items have the indices from N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import NEVER
from recsys.retrieval.candidates import Windows


@dataclass(frozen=True, slots=True)
class PlacedItems:
    """Item vectors of new items."""

    matrix: Tensor  # (new, H) float32
    bias: Tensor  # (new,) float32
    digests: Sequence[bytes]  # of what each vector was computed from
    first: int  # index of the first one: the number of trained items

    def __len__(self) -> int:
        return len(self.matrix)

    def candidates(
        self,
        vectors: NDArray[np.float32],
        allowed: Sequence[AllowedItems | None],
        depth: int,
    ) -> NDArray[np.int64]:
        """Return the best allowed new items of each query by the score of the model.

        Args:
            vectors: (B, H) float32, the vectors of the queries.
            allowed: for each query, None for all.
            depth: how many of them.

        Returns:
            (B, C) int64 item indices, all new items where there are no more than `depth`.
        """
        items = np.arange(self.first, self.first + len(self))
        if depth >= len(self):
            return np.broadcast_to(items, (len(vectors), len(self)))
        scores = vectors @ self.matrix.numpy().T + self.bias.numpy()
        for row, held in zip(scores, allowed, strict=True):
            if held is not None:
                row[~held.holds(items)] = NEVER
        return items[np.argpartition(-scores, depth - 1, axis=1)[:, :depth]]


class ItemVectors:
    """Vectors and biases of the items of a bundle and of new ones."""

    def __init__(self, matrix: Tensor, bias: Tensor, new: PlacedItems | None) -> None:
        """Hold both tables; the larger one is not copied."""
        self._matrix, self._bias, self._new = matrix.numpy(), bias.numpy(), new

    def __len__(self) -> int:
        return len(self._matrix) + (0 if self._new is None else len(self._new))

    def take(self, items: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return vectors, (B, C, H), and biases, (B, C), of items; of any item for -1."""
        vectors = self._matrix.take(items, axis=0, mode="clip")
        biases = self._bias.take(items, mode="clip")
        if self._new is not None:
            rows = np.nonzero(items >= len(self._matrix))
            places = items[rows] - len(self._matrix)
            vectors[rows] = self._new.matrix.numpy()[places]
            biases[rows] = self._new.bias.numpy()[places]
        return vectors, biases


def trained_only(clicks: Windows, new: PlacedItems | None) -> Windows:
    """Return windows in which a new item is -1, an unknown one, for what only training has seen.

    Args:
        clicks: B windows of item indices.
        new: the new items, if there are any.
    """
    if new is None:
        return clicks
    return [[item if item < new.first else -1 for item in window] for window in clicks]
