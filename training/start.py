"""Where a run begins: which items it knows, in which order, and with which weights.

`Scratch` begins with random weights for the items of the training sessions;
`training/warm_start.py` goes on from those of a bundle.
"""

from typing import Protocol

import torch

from data.sessions import Sessions, known_items, reindex
from recsys.catalogue import Catalogue
from training.recipe import Recipe
from training.weights import Weights


class Start(Protocol):
    """Asked once for each phase of a run, because a validation part takes items away."""

    @property
    def mark(self) -> str:
        """What tells a checkpoint of this start from those of others; empty for scratch."""
        ...

    def catalogue(self, sessions: Sessions) -> Catalogue:
        """The items in the order of their indices; holds every item of the sessions."""
        ...

    def weights(
        self, catalogue: Catalogue, indexed: Sessions, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """Weights that the run may change; indexed: the sessions in the catalogue's indices."""
        ...


class Scratch:
    """Random weights; items in the order in which the clicks first name them."""

    mark = ""

    def catalogue(self, sessions: Sessions) -> Catalogue:
        item_ids = known_items(sessions)
        return Catalogue(item_ids, reindex(sessions, item_ids).counts())

    def weights(
        self, catalogue: Catalogue, indexed: Sessions, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        return Weights.fresh(recipe.size(len(catalogue)), generator)
