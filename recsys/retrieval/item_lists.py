"""Index of item lists: for each item, the items that score highest after a click on it.

A hidden state depends mostly on the last click. So the items that score highest for a state stand,
nearly all, in the lists of the last clicks, which are computed when the bundle is written. Items
that would be in very many lists are kept apart as common items and scored for every query. A
query reads a few lists, however large the catalogue is. The training measures what this overlooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import BundleRefused
from recsys.retrieval.candidates import MEASURED_K, IndexSettings, Windows, index_width, with_bias
from recsys.retrieval.int8 import has_int8_products, in_steps, int8_product, rounded, steps_of

TENSORS = ("lists", "common", "vectors")
MAX_K = 2 * MEASURED_K  # the longest list that these lists are long enough for
# Common items beyond those asked for, because products of 8 bits are rounded: of the best 20 to 100
# of 2,048 random ones, .99999 are found with 8 more, .99 without.
MORE, MORE_PER = 10, 5


class ItemLists:
    """Candidates from the lists of a session's last clicks, and from the common items."""

    def __init__(
        self, lists: Tensor, common: Tensor, vectors: Tensor, settings: IndexSettings
    ) -> None:
        """Hold the lists.

        Args:
            lists: (N, length) int32 item indices, a list for each item, without common items.
            common: (C,) int32 item indices of the common items.
            vectors: (C, width) float32, the common items' vectors with their bias.
            settings: `probes` is the number of last clicks whose lists are read.
        """
        self.settings = settings
        self._lists, self._common, self._vectors = lists.numpy(), common.numpy(), vectors
        self._codes = _Codes.of(vectors)

    @classmethod
    def read(cls, path: Path, settings: IndexSettings, items: int, hidden: int) -> "ItemLists":
        """Memory-map the lists of a bundle, so that processes share them.

        Args:
            path: file of the index.
            settings: the manifest's settings of the index.
            items: N of the bundle.
            hidden: H, the length of an item vector without its bias.

        Raises:
            BundleRefused: the file does not hold lists of so many items.
        """
        try:
            with safe_open(path, framework="pt") as file:
                lists, common, vectors = map(file.get_tensor, TENSORS)
        except (OSError, SafetensorError) as broken:
            raise BundleRefused(
                f"{path} is not a readable index. Export the bundle anew."
            ) from broken
        held = lists.dtype, common.dtype, vectors.dtype, tuple(lists.shape[:1]), vectors.shape
        needed = (
            *(torch.int32, torch.int32, torch.float32),
            *((items,), (len(common), index_width(hidden))),
        )
        if held != needed or lists.dim() != 2 or common.dim() != 1:
            raise BundleRefused(
                f"{path} does not hold lists of {items:,} items. Export the bundle anew."
            )
        if not (_within(lists, items) and _within(common, items) and vectors.isfinite().all()):
            raise BundleRefused(
                f"{path} holds item indices outside the catalogue, or vectors that are not finite. "
                "Export the bundle anew."
            )
        return cls(lists, common, vectors, settings)

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def max_k(self) -> int:
        """Return the length of the longest list that the index finds candidates for."""
        return MAX_K

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        count: int,
    ) -> NDArray[np.int64]:
        """Return the last clicks' lists and at least `count` common items; see `CandidateIndex`."""
        last = [self._last(window) for window in clicks]
        listed = self._lists.take(last, axis=0).reshape(len(queries), -1)
        common = self._best_common(with_bias(queries, self.settings.bias_unit), count)
        return np.concatenate([listed, common], axis=1, dtype=np.int64)

    def _last(self, clicks: Sequence[int]) -> list[int]:
        """Return the last distinct clicks, newest first; the oldest is repeated if too few."""
        probes = self.settings.probes
        if probes == 1:
            return [clicks[-1]]
        last = list(islice(dict.fromkeys(reversed(clicks)), probes))
        return last + last[-1:] * (probes - len(last))

    def _best_common(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        """Return at least `count` common items for each query; queries: (B, width)."""
        wanted = count + count // MORE_PER + MORE
        if wanted >= len(self._common):
            return np.broadcast_to(self._common, (len(queries), len(self._common)))
        best: NDArray[np.int32] = self._common[self._codes.largest(queries, wanted)]
        return best

    def with_probes(self, probes: int) -> "ItemLists":
        """Return the same index that reads the lists of `probes` last clicks."""
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return ItemLists(*self.tensors(), settings)

    def write(self, path: Path) -> None:
        """Write the index to one file."""
        save_file(dict(zip(TENSORS, self.tensors(), strict=True)), path)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lists, the common items and their vectors, as the constructor takes them."""
        return torch.from_numpy(self._lists), torch.from_numpy(self._common), self._vectors


@dataclass(frozen=True, slots=True)
class _Codes:
    """Vectors of the common items in 8 bits.

    Every batch reads all of them. In float32, 1.2 MB of them push what else a request needs out of
    the second cache of a core.
    """

    columns: Tensor  # (width, C), as `int8_product` takes them
    steps: NDArray[np.float32]  # (width,)

    @classmethod
    def of(cls, vectors: Tensor) -> "_Codes":
        """Round vectors, (C, width) float32.

        What all of them have in common, as a bias far from 0, changes no order and would only make
        the steps longer.
        """
        if not len(vectors):
            return cls(vectors.t(), np.ones(vectors.shape[1], dtype=np.float32))
        centred = vectors - vectors.mean(dim=0)
        steps = steps_of(centred.abs().amax(dim=0))
        codes = (centred / steps).round_().to(torch.int8)
        return cls((codes if has_int8_products() else codes.float()).t(), steps.numpy())

    def largest(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the vectors with the largest products, (B, count); queries: (B, width)."""
        torch.get_num_threads()  # applies torch's setting to this thread, as _int_mm does not
        products = torch.empty((len(queries), self.columns.shape[1]), dtype=torch.int32)
        int8_product(rounded(in_steps(queries, self.steps)), self.columns, products)
        return torch.topk(products, count, sorted=False)[1].numpy()


def _within(items: Tensor, count: int) -> bool:
    return items.numel() == 0 or (int(items.min()) >= 0 and int(items.max()) < count)
