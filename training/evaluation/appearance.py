"""Appearance of items: an item that appears after a click is no candidate of that click.

Only where the content names a time. The times are attributes of the catalogue, so training and
`recsys evaluate` use the same ones.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.schema import parse_times
from recsys.predictor import Predictor

HIDDEN = float("-inf")


@dataclass(frozen=True)
class Appearance:
    """Time at which each item appears."""

    times_ms: NDArray[np.int64]  # (N,) the smallest number where an item has no time

    @torch.inference_mode()  # scores of a model were made in it, and may change in it alone
    def hide(self, scores: Tensor, moments_ms: NDArray[np.int64]) -> None:
        """Give items that appear later than a case the lowest score, in place.

        Args:
            scores: (cases, N).
            moments_ms: (cases,) int64, the time of each case.
        """
        moments = torch.from_numpy(moments_ms).unsqueeze(1)
        scores.masked_fill_(torch.from_numpy(self.times_ms) > moments, HIDDEN)


def appearance_of(predictor: Predictor) -> Appearance | None:
    """Return the times of a model's items, None where its content names none."""
    name = None if predictor.content is None else predictor.content.schema.time
    if name is None or name not in predictor.catalogue.attributes:
        return None
    texts = predictor.catalogue.attributes[name].array
    given = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    times = np.full(len(texts), np.iinfo(np.int64).min, dtype=np.int64)
    times[given], _ = parse_times(name, pc.drop_null(texts), 1)
    return Appearance(times)
