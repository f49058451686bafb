"""New items: choose the numbers of their term on validation sessions.

The formula is in `recsys/content/new_items.py`. The rate is chosen as recent popularity is: on one
half of the validation sessions, measured on the other half, used where it gains more than two
standard errors. The shift is the largest that costs targets with clicks at most `new_item_cost` of
their recall@20, or the one with the best recall@20 of all targets where that is larger: a model
that was trained before an item appeared cannot know how it will be clicked, and an item that is
never shown is never clicked.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.content.new_items import NewItemTerm
from recsys.model.ranking import largest
from recsys.predictor import Predictor
from training.additions.cases import ScoredCases, scored_cases
from training.additions.gain import gains, is_clear
from training.evaluation.appearance import Appearance
from training.recipe import Recipe

RATE_CASES = 4_000
RATES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # a day
SHIFTS = tuple((np.arange(-16, 25) / 4).tolist())
LEAST_HITS = 100  # targets with clicks in a list of 20; fewer say little about a cost
CUTOFF = 20
HALVES = 2
TOO_FEW = "shift 0, because there are too few validation sessions to choose it on"


@dataclass(frozen=True, slots=True)
class ChosenTerm:
    """Chosen numbers, with a sentence about them; None where no item is new."""

    term: NewItemTerm | None
    summary: str


def choose_new_item_term(
    recipe: Recipe, predictor: Predictor, valid: Sessions | None, reference_ms: int
) -> ChosenTerm:
    """Choose the numbers.

    Args:
        recipe: Its `new_item_cost` is used.
        predictor: Predictor without additions; without content there is no term.
        valid: Sessions that it was not trained on; None for none.
        reference_ms: Time of the last click of training.
    """
    if predictor.content is None:
        return ChosenTerm(None, "none")
    if valid is None:
        return ChosenTerm(NewItemTerm(reference_ms=reference_ms), TOO_FEW)
    rate = _best_rate(predictor, valid, reference_ms)
    term = NewItemTerm(0.0, rate, reference_ms)
    shift, summary = _best_shift(recipe, predictor.with_bias(term_of(term, predictor)), valid)
    if rate > 0:
        summary += f"; {rate:g} a day for the time of appearance"
    return ChosenTerm(NewItemTerm(shift, rate, reference_ms), summary)


def term_of(term: NewItemTerm, predictor: Predictor) -> Tensor:
    """Return what is added to the bias of each item of a model, (N,) float32."""
    appearance = Appearance.of(predictor)
    times = None if appearance is None else appearance.times_or_nan
    return torch.from_numpy(term.of_items(predictor.catalogue.counts == 0, times))


def _best_rate(predictor: Predictor, valid: Sessions, reference_ms: int) -> float:
    if Appearance.of(predictor) is None:
        return 0.0
    terms = [term_of(NewItemTerm(0.0, rate, reference_ms), predictor) for rate in RATES]
    parts = [
        (cases.session, np.stack([_ranks(cases.scores + term, cases) for term in terms]))
        for cases in scored_cases(predictor, valid, RATE_CASES)
    ]
    if not parts:
        return 0.0
    session = np.concatenate([sessions for sessions, _ in parts])
    before, *after = np.concatenate([ranks for _, ranks in parts], axis=1)
    gained = np.stack([gains(ranks, before) for ranks in after])
    at = np.zeros(len(session), dtype=np.int64)
    for half in range(HALVES):
        own = session % HALVES == half
        if own.all() or not own.any():
            return 0.0
        at[own] = gained[:, ~own].mean(axis=1).argmax()
    if not is_clear(gained[at, np.arange(len(session))], session):
        return 0.0
    return RATES[1 + int(gained.mean(axis=1).argmax())]


def _ranks(scores: Tensor, cases: ScoredCases) -> NDArray[np.int64]:
    column = torch.from_numpy(np.maximum(cases.target, 0)).unsqueeze(1)
    ranks: NDArray[np.int64] = (scores >= scores.gather(1, column)).sum(dim=1).numpy()
    return np.where(cases.target >= 0, ranks, np.iinfo(np.int32).max)


def _best(scores: Tensor, of_kind: Tensor) -> Tensor:
    """Return the best scores of one kind of items, one more than a list holds: (cases, …)."""
    own = scores[:, of_kind]
    return largest(own, min(CUTOFF + 1, own.size(1)))[0]


def _best_shift(recipe: Recipe, predictor: Predictor, valid: Sessions) -> tuple[float, str]:
    """Return the shift and a sentence."""
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
        return 0.0, TOO_FEW
    affordable = np.flatnonzero(clicked >= hidden * (1 - recipe.new_item_cost))
    at = max(int(affordable.max(initial=0)), int((clicked + new).argmax()))
    cost = 1 - clicked[at] / hidden
    return SHIFTS[at], (
        f"shift {SHIFTS[at]:g}, with which new items cost {cost:.1%} of recall@20 of targets with "
        "clicks on validation sessions"
    )
