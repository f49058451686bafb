"""Vector and bias of an item by its content: a sum over what is known about the item.

    content(item) = Σ weight · values[code] + dense @ projection

`values` has a learned row for each value of a categorical or multi-valued attribute; the values of
a multi-valued one share a weight of 1. `dense` holds a constant 1, the standardised numbers and
vectors, and a 1 for each that is missing; `projection` is one linear map of all of them. A row has
H + 1 numbers: the last one is the item's bias, the others are its vector.

Items with clicks have vectors of their own; content(item) places those without among them
(`recsys/content/similar_items.py`). Training drops the own vectors of some items at random, so that
content can stand alone (after DropoutNet: Volkovs et al., NIPS 2017, section 3.2).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

# formula of the content part, eager or scripted: the arguments of `ContentSum`
ContentFunction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class ContentSum(nn.Module):
    """Formula of the content part, as a module that a bundle can hold as TorchScript."""

    def forward(
        self,
        values: Tensor,
        projection: Tensor,
        codes: Tensor,
        offsets: Tensor,
        weights: Tensor,
        dense: Tensor,
    ) -> Tensor:
        """Return the content part of B items.

        Args:
            values: (rows, H + 1) float32, learned rows of the values.
            projection: (columns, H + 1) float32, linear map of the dense numbers.
            codes: (entries,) int64 rows of `values`, item after item.
            offsets: (B + 1,) int64; the entries of item b are offsets[b] … offsets[b+1]-1.
            weights: (entries,) float32.
            dense: (B, columns) float32.

        Returns:
            (B, H + 1) float32.
        """
        summed = functional.embedding_bag(
            codes, values, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        return torch.addmm(summed, dense, projection)
