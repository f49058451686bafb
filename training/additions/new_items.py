"""New items: choose their shift on validation sessions.

The shift is the largest that costs targets with clicks at most `new_item_cost` of their recall@20,
or the one with the best recall@20 of all targets where that is larger: a model that was trained
before an item appeared cannot know how it will be clicked, and an item that is never shown is never
clicked.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.content.new_items import NewItemTerm
from recsys.model.ranking import largest
from recsys.predictor import Predictor
from training.additions.cases import scored_cases
from training.recipe import Recipe

SHIFTS = tuple((np.arange(-32, 25) / 4).tolist())
NO_TERM = NewItemTerm()
LEAST_HITS = 100  # targets with clicks in a list of 20; fewer say little about a cost
CUTOFF = 20
TOO_FEW = "because there are too few validation sessions to choose it on"


@dataclass(frozen=True, slots=True)
class ChosenTerm:
    """Chosen term, with a sentence about it; None without content."""

    term: NewItemTerm | None
    summary: str


def choose_new_item_term(
    recipe: Recipe,
    predictor: Predictor,
    valid: Sessions | None,
    kept: NewItemTerm = NO_TERM,
) -> ChosenTerm:
    """Choose the shift.

    Args:
        recipe: Its `new_item_cost` is used.
        predictor: Predictor without additions; without content there is no term.
        valid: Sessions that it was not trained on; None for none.
        kept: Term where these sessions are too few: that of the bundle that is continued.
    """
    if predictor.content is None:
        return ChosenTerm(None, "none")
    chosen = None if valid is None else _best_shift(recipe, predictor, valid)
    if chosen is None:
        return ChosenTerm(kept, f"shift {kept.shift:g}, {TOO_FEW}")
    shift, summary = chosen
    return ChosenTerm(NewItemTerm(shift), summary)


def term_of(term: NewItemTerm, catalogue: Catalogue) -> Tensor:
    """Return what is added to the bias of each item, (N,) float32."""
    return torch.from_numpy(np.where(catalogue.counts == 0, term.shift, 0.0).astype(np.float32))


def _best(scores: Tensor, of_kind: Tensor) -> Tensor:
    """Return the best scores of one kind of items, one more than a list holds: (cases, …)."""
    own = scores[:, of_kind]
    return largest(own, min(CUTOFF + 1, own.size(1)))[0]


def _best_shift(recipe: Recipe, predictor: Predictor, valid: Sessions) -> tuple[float, str] | None:
    """Return the shift and a sentence; None where the sessions are too few."""
    is_new = torch.from_numpy(predictor.catalogue.counts == 0)
    clicked, new = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS))  # targets in a list of 20
    hidden = 0  # targets with clicks in a list without new items
    for cases in scored_cases(predictor, valid):
        target = torch.from_numpy(np.maximum(cases.target, 0))
        known = torch.from_numpy(cases.target >= 0)
        of_target = cases.scores.gather(1, target.unsqueeze(1))
        target_is_new = is_new[target]
        # the best of each kind decide whether a target is in the list
        others, news = _best(cases.scores, ~is_new), _best(cases.scores, is_new)
        old = known & ~target_is_new
        above = (others >= of_target).sum(dim=1)
        hidden += int(((above <= CUTOFF) & old).sum())
        for at, shift in enumerate(SHIFTS):
            ahead = above + (news >= of_target - shift).sum(dim=1)
            clicked[at] += int(((ahead <= CUTOFF) & old).sum())
            of_new = (others >= of_target + shift).sum(dim=1) + (news >= of_target).sum(dim=1)
            new[at] += int(((of_new <= CUTOFF) & known & target_is_new).sum())
    if hidden < LEAST_HITS:
        return None
    affordable = np.flatnonzero(clicked >= hidden * (1 - recipe.new_item_cost))
    at = max(int(affordable.max(initial=0)), int((clicked + new).argmax()))
    cost = 1 - clicked[at] / hidden
    return SHIFTS[at], (
        f"shift {SHIFTS[at]:g}, with which new items cost {cost:.1%} of recall@20 of targets with "
        "clicks on validation sessions"
    )
