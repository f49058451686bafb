"""Cases by the event type of their target, and OTTO's weighted recall.

OTTO's recall@20 (Kaggle, OTTO: Multi-Objective Recommender System, 2022) is the weighted mean of
the recall on clicks, on carts and on orders. There the targets are all later events of a session,
here the next click alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import LIST_LENGTH, RankedCases

NO_TYPE = "none"  # name of the targets without a type
WEIGHTED_RECALL = f"weighted_recall@{LIST_LENGTH}"
# (weight, names that logs have for it)
KINDS: Sequence[tuple[float, frozenset[str]]] = (
    (0.1, frozenset({"click", "clicks", "view", "views", "pv", "pageview"})),
    (0.3, frozenset({"cart", "carts", "addtocart", "add_to_cart"})),
    (0.6, frozenset({"order", "orders", "buy", "purchase", "purchases", "transaction"})),
)


def target_masks(cases: RankedCases) -> dict[str, NDArray[np.bool_]]:
    """Return type → whether each target has it, (cases,) bool; only types of a target."""
    if cases.event is None:
        return {}
    names = (NO_TYPE, *cases.event_types)
    masks = {name: cases.event == number for number, name in enumerate(names)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def weighted_recall(cases: RankedCases) -> float | None:
    """Return .1 · recall@20 on clicks + .3 on carts + .6 on orders; None where one has no case."""
    total = 0.0
    masks = target_masks(cases)
    for weight, names in KINDS:
        of_kind = np.zeros(len(cases.rank), dtype=bool)
        for name in names & masks.keys():
            of_kind |= masks[name]
        if not of_kind.any():
            return None
        total += weight * float((cases.rank[of_kind] <= LIST_LENGTH).mean())
    return total
