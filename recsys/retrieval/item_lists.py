"""What follows the clicks: for each item, a list of those that score highest once it is clicked.

A state is mostly the last click's, so the items that score highest for it stand, nearly all, in
the lists that were made beforehand for the last clicks alone. Items that would stand in very many
lists are common to all queries instead, and scored for each. Nothing is searched: a query costs a
look at a few lists, however large the catalogue is. What it overlooks is measured where a bundle is
written.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import BundleRefused
from recsys.retrieval.candidates import SHORTEST, IndexSettings, Windows, width_in_index, with_bias

TENSORS = ("lists", "common", "vectors")
REACH = 2 * SHORTEST  # items of the longest list that these lists are made for


class ItemLists:
    """Candidates from the lists of a session's last clicks, and from the common items."""

    def __init__(
        self, lists: Tensor, common: Tensor, vectors: Tensor, settings: IndexSettings
    ) -> None:
        """lists: (N, M) int32, M items for each item, none of them common; common: (C,) int32.

        vectors: (C, W) float32, those of the common items with their bias.
        """
        self.settings = settings
        self._lists, self._common, self._vectors = lists.numpy(), common.numpy(), vectors

    @classmethod
    def read(cls, path: Path, settings: IndexSettings, items: int, width: int) -> "ItemLists":
        """Memory-mapped, so that processes share it; raises `BundleRefused`."""
        try:
            with safe_open(path, framework="pt") as file:
                lists, common, vectors = map(file.get_tensor, TENSORS)
        except (OSError, SafetensorError) as broken:
            raise BundleRefused(
                f"{path} is not a readable index. Export the bundle anew."
            ) from broken
        found = lists.dtype, common.dtype, vectors.dtype, tuple(lists.shape[:1]), vectors.shape
        wanted = (
            *(torch.int32, torch.int32, torch.float32),
            *((items,), (len(common), width_in_index(width))),
        )
        if found != wanted or lists.dim() != 2 or common.dim() != 1:
            raise BundleRefused(
                f"{path} holds no lists of {items:,} items. Export the bundle anew."
            )
        if not (_within(lists, items) and _within(common, items) and vectors.isfinite().all()):
            raise BundleRefused(f"{path} names items that there are not. Export the bundle anew.")
        return cls(lists, common, vectors, settings)

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def reach(self) -> int:
        return REACH

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        wanted: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        # by torch, whose threads the service has set; those of numpy's product would only spin
        wide = torch.from_numpy(with_bias(queries, self.settings.bias_unit))
        scores = (wide @ self._vectors.t()).numpy()  # (B, C)
        last = [self._last(own) for own in clicks]
        following = self._lists.take(last, axis=0).reshape(len(queries), -1)
        common = self._best_common(scores, wanted)
        return np.concatenate([following, common], axis=1, dtype=np.int64)

    def _last(self, clicks: Sequence[int]) -> list[int]:
        """The last clicks whose lists are read; the first of them again where there are too few."""
        probes = self.settings.probes
        if probes == 1:
            return [clicks[-1]]
        last = list(islice(dict.fromkeys(reversed(clicks)), probes))
        return last + last[-1:] * (probes - len(last))

    def _best_common(self, scores: NDArray[np.float32], most: int) -> NDArray[np.int32]:
        if most >= scores.shape[1]:
            return np.broadcast_to(self._common, scores.shape)
        best: NDArray[np.int32] = self._common[np.argpartition(scores, -most, axis=1)[:, -most:]]
        return best

    def looking_at(self, probes: int) -> "ItemLists":
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return ItemLists(*self._tensors(), settings)

    def write(self, path: Path) -> None:
        save_file(dict(zip(TENSORS, self._tensors(), strict=True)), path)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.from_numpy(self._lists), torch.from_numpy(self._common), self._vectors


def _within(items: Tensor, count: int) -> bool:
    return items.numel() == 0 or (int(items.min()) >= 0 and int(items.max()) < count)
