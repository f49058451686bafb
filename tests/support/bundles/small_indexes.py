"""A small set of item vectors, and item lists on them whose content is known."""

import numpy as np
import torch
from torch import Tensor

from recsys.model.gru4rec import unit
from recsys.retrieval.candidates import IndexSettings, with_bias
from recsys.retrieval.item_lists import ItemLists

ITEMS, HIDDEN, COMMON = 300, 8, 30


def item_vectors(scale: float) -> tuple[Tensor, Tensor]:
    """Return an item matrix and its biases; vectors have length 1 where scale is not 0."""
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(ITEMS, HIDDEN, generator=generator)
    return (unit(matrix) if scale else matrix), torch.randn(ITEMS, generator=generator)


def hidden_states(rows: int, seed: int = 5) -> Tensor:
    """Return random hidden states."""
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


def circular_lists(matrix: Tensor, bias: Tensor, length: int) -> ItemLists:
    """Return lists of the items that follow each item in a circle; the first items are common."""
    common = np.arange(COMMON)
    after = np.arange(ITEMS)[:, None] + np.arange(length)
    lists = COMMON + after % (ITEMS - COMMON)
    vectors = with_bias(matrix.numpy()[common], bias.numpy()[common] / 3.0)
    lists, common = lists.astype(np.int32), common.astype(np.int32)
    parts = torch.from_numpy(lists), torch.from_numpy(common), torch.from_numpy(vectors)
    return ItemLists(*parts, IndexSettings("lists", 3.0, probes=1))
