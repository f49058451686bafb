"""Similar items: where a new item stands among the items with clicks.

    nearby(new) = Σ weight · own(item) / Σ weight      weight = exp(sharpness · cosine)
    vector(new) = nearby(new) + content_share · content(new)

The sum is over the clicked items with the most similar contents; own(item) is the learned vector,
and cosine compares the content parts (`recsys/content/model.py`), less the mean of all. This is
kernel regression (Nadaraya 1964, Watson 1964) on the learned content. A sum over attributes cannot
express what is special to a group of items; their own vectors do. The bias of a new item is the
mean bias of the same items.

Where scores are cosines, own(item) and content(new) have length 1. The vector of a new item has
not: it is the shorter, the less the similar items agree, so that it scores high where they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.gru4rec import unit

MOST_CONTENTS = 1 << 15  # that a bundle holds; a thousand items are placed in half a second
MOST_ITEMS = 1 << 18  # that are compared for equal contents
EQUAL = 1e-4  # differences, of the mean length, of equal contents; they are computed in float32
ITEMS_AT_ONCE = 256  # that are placed together
LARGEST = 1e6  # of a number of a bundle
TOLERANCE = 1e-3  # of lengths


@dataclass(frozen=True, slots=True)
class Placing:
    """Numbers of the formula; a bundle holds those that it was written with.

    Raises:
        ValueError: a number is outside its range.
    """

    contents: int = 20
    sharpness: float = 14.0
    content_share: float = 0.5

    def __post_init__(self) -> None:
        numbers = (self.sharpness, self.content_share)
        if type(self.contents) is not int or not 1 <= self.contents <= MOST_CONTENTS:
            raise ValueError(f"contents must be 1 to {MOST_CONTENTS:,}, got {self.contents!r}.")
        if not all(type(number) is float and 0 <= number <= 1e3 for number in numbers):
            raise ValueError(f"the other numbers must be from 0 to 1,000, got {numbers!r}.")


@dataclass(frozen=True)
class ClickedContents:
    """Contents of the items with clicks; items of equal content count together."""

    center: Tensor  # (H,) float32, mean content part of the vectors
    content: Tensor  # (C, H) float32, content parts less the mean, of length 1
    own: Tensor  # (C, H + 1) float32, means of the learned vectors and biases
    counts: Tensor  # (C,) float32, items of this content
    placing: Placing = Placing()

    @classmethod
    def of(cls, parts: Tensor, own: Tensor) -> "ClickedContents":
        """Group items with clicks by their content.

        Where there are too many contents, some are taken, spread evenly over the items.

        Args:
            parts: (N, H + 1) float32, the content parts of the items.
            own: (N, H + 1) float32, their vectors, as in the item matrix, and their biases.
        """
        vectors, device = parts[:, :-1], parts.device
        step = EQUAL * float(torch.linalg.vector_norm(vectors, dim=1).mean())
        steps = torch.round(vectors / max(step, 1e-30)).clamp(-1e9, 1e9).to(torch.int32)
        rows = np.ascontiguousarray(steps.cpu().numpy())
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        kept = np.argsort(first)[evenly(len(first), MOST_CONTENTS)]
        counts = torch.from_numpy(np.bincount(group).astype(np.float32)[kept]).to(device)
        total = own.new_zeros(len(first), own.size(1))
        total.index_add_(0, torch.from_numpy(group).to(device), own)
        means = total[torch.from_numpy(kept).to(device)] / counts.unsqueeze(1)
        center = vectors.mean(dim=0)
        content = unit(vectors[torch.from_numpy(first[kept]).to(device)] - center)
        return cls(center, content, means, counts)

    def fits(self, hidden: int) -> bool:
        """Return whether the tables are those of a model of this width."""
        tables = (self.center, self.content, self.own, self.counts)
        contents = len(self.counts) if self.counts.dim() else 0
        shapes = ((hidden,), (contents, hidden), (contents, hidden + 1), (contents,))
        return (
            0 < contents <= MOST_CONTENTS
            and all(table.dtype == torch.float32 for table in tables)
            and all(table.shape == shape for table, shape in zip(tables, shapes, strict=True))
            and all(bool((table.abs() <= LARGEST).all()) for table in tables)
            and float(self.counts.min()) >= 1
            and float(torch.linalg.vector_norm(self.content, dim=1).max()) <= 1 + TOLERANCE
        )

    def place(self, parts: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors and the biases of new items, (B, H) and (B,) float32.

        Args:
            parts: (B, H + 1) float32, their content parts.
            content: (B, H) float32, the content parts of the vectors, scaled as the vectors are.
        """
        nearby = torch.cat([*self._nearby(parts), parts[:0]])
        return nearby[:, :-1] + self.placing.content_share * content, nearby[:, -1]

    def _nearby(self, parts: Tensor) -> Iterator[Tensor]:
        """Yield the mean vectors and biases of similar items, (B, H + 1), block by block."""
        for block in torch.split(parts, ITEMS_AT_ONCE):
            cosine = unit(block[:, :-1] - self.center) @ self.content.T
            near, contents = cosine.topk(min(self.placing.contents, len(self.content)), dim=1)
            weight = torch.exp(self.placing.sharpness * (near - near[:, :1]))
            weight *= self.counts[contents]
            summed = torch.einsum("bn,bnh->bh", weight, self.own[contents])
            yield summed / weight.sum(dim=1, keepdim=True)


def evenly(items: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of so many items, spread evenly."""
    taken = min(items, most)
    return np.arange(taken, dtype=np.int64) * items // max(taken, 1)
