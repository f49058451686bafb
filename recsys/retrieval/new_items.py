"""New items: items that a bundle does not have, with vectors computed from their content.

They stand in a small table beside the item matrix, which stays one memory-mapped copy for all
processes. The N items of the bundle come first, so new items have the indices N to N + M - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from recsys.retrieval.candidates import Windows


@dataclass(frozen=True, slots=True)
class NewItems:
    """Item vectors of M new items."""

    matrix: Tensor  # (M, H) float32
    bias: Tensor  # (M,) float32
    digests: Sequence[bytes]  # of what each vector was computed from

    def __len__(self) -> int:
        return len(self.matrix)


def trained_only(clicks: Windows, items: int, new: NewItems | None) -> Windows:
    """Return windows in which a new item is -1, an unknown one, for what only training has seen.

    Args:
        clicks: B windows of item indices.
        items: N.
        new: the new items, if there are any.
    """
    if new is None:
        return clicks
    return [[item if item < items else -1 for item in window] for window in clicks]
