"""Blend: choose settings and weight of session neighbours on the validation sessions.

A blend is tried with every settings of neighbours and every weight of a grid, with the repeat term
on top. The one with the highest gain is used, if the gain is clear. One pass over the validation
sessions gathers what all of them need: of the items that are neither in the window nor among the
votes, the order is that of the model, so the highest scores and those of these items are enough.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import UNRANKED, largest
from recsys.model.repeats import RepeatTerm, temperature_of
from recsys.neighbours.blend import NORMALIZING, VOTES, Blend, BlendSettings
from recsys.neighbours.index import NeighbourIndex
from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.predictor import Predictor
from training.additions.cases import ScoredCases, scored_cases
from training.additions.gain import gains, is_clear
from training.baselines.newest import NEIGHBOUR_CLICKS, newest
from training.baselines.session_knn import build_neighbour_index
from training.evaluation.evaluate import LIST_LENGTH
from training.recipe import Recipe

WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
# Settings beside those of the recipe that `blend = "auto"` tries: found by searches on the
# validation sessions of Yoochoose 1/64 and of Diginetica.
OTHER_SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"idf": 0.5, "click_decay": 0.7, "age_decay_days": 30.0, "distance_decay": 3.0},
    {"idf": 4.0, "click_decay": 3.0, "age_decay_days": 5.0, "distance_decay": 3.0},
)

Floats = NDArray[np.float32]


def settings_to_try(recipe: Recipe) -> list[NeighbourSettings]:
    """Return the settings of neighbours that a recipe with a blend tries, its own first.

    A decay of 0 is none, and V-SKNN has none.
    """
    plain = NeighbourSettings(recipe.neighbours, recipe.candidates, idf=recipe.idf)
    if recipe.blend == "v-sknn":
        return [plain]
    own = dataclasses.replace(
        plain,
        click_decay=recipe.click_decay or None,
        age_decay_days=recipe.age_decay_days or None,
        distance_decay=recipe.distance_decay or None,
    )
    if recipe.blend == "vstan":
        return [own]
    return [own, *(dataclasses.replace(own, **changes) for changes in OTHER_SETTINGS)]


def neighbour_index(
    settings: NeighbourSettings, catalogue: Catalogue, train: Sessions | Selection
) -> NeighbourIndex:
    """Return the index of the newest of these sessions, whose items are codes of their log."""
    indexed = newest(Selection.of(train).indexed(catalogue.item_ids), NEIGHBOUR_CLICKS)
    return build_neighbour_index(indexed, len(catalogue), settings.candidates)


def blend_of(
    settings: BlendSettings | None, catalogue: Catalogue, train: Sessions | Selection
) -> Blend | None:
    """Return the blend with neighbours out of the training sessions; None without settings."""
    if settings is None:
        return None
    return Blend(neighbour_index(settings.neighbours, catalogue, train), settings)


def blend_summary(recipe: Recipe, settings: BlendSettings | None) -> str:
    """Return a sentence about the blend, for the console and the bundle."""
    if recipe.blend == "none":
        return "none"
    if settings is None:
        return "left out, because no weight of neighbours is clearly better on validation sessions"
    source = "as the recipe says" if recipe.blend_weight else "chosen on validation sessions"
    kind = "v-sknn" if recipe.blend == "v-sknn" else "vstan"
    numbers = settings.neighbours
    details = ", ".join(
        f"{name} {getattr(numbers, name):g}"
        for name in ("idf", "click_decay", "age_decay_days", "distance_decay")
        if getattr(numbers, name) is not None
    )
    return f"{kind} with a weight of {settings.weight:g}, {source} ({details})"


def choose_blend(
    recipe: Recipe,
    predictor: Predictor,
    train: Sessions | Selection,
    valid: Sessions | None,
    repeats: RepeatTerm | None = None,
) -> BlendSettings | None:
    """Return the recipe's blend, or the best one on validation sessions; None for no blend.

    Args:
        recipe: Kind of the blend, and its weight, if that is not to be chosen.
        predictor: Predictor trained on `train`, without additions.
        train: Sessions of the neighbours, items as codes of their log.
        valid: Sessions to validate on, items as codes of their log, if there are any.
        repeats: Repeat term for the scores of the predictor, if there is one.
    """
    if recipe.blend == "none":
        return None
    tried = settings_to_try(recipe)
    if recipe.blend_weight > 0:
        return _settings(recipe.blend_weight, tried[0])
    if valid is None:
        return None
    return best_blend(weigh(tried, predictor, train, valid, repeats))


@dataclass(frozen=True)
class WeighedCases:
    """Ranks of the targets of validation cases, exact up to 20."""

    session: NDArray[np.int64]  # (cases,)
    alone: NDArray[np.int64]  # (cases,) without neighbours
    blended: Sequence[tuple[BlendSettings, NDArray[np.int64]]]  # each (cases,)


def best_blend(cases: WeighedCases) -> BlendSettings | None:
    """Return the settings with the highest gain, of equal ones the first.

    None where the gain is not clear. It is measured on the cases of one half of the sessions for
    the settings that are best on the other half.
    """
    if not cases.blended:
        return None
    gained = np.stack([gains(ranks, cases.alone) for _, ranks in cases.blended])
    unseen = np.zeros(len(cases.session))
    for half in (0, 1):
        left_out = cases.session % 2 == half
        if left_out.all() or not left_out.any():
            return None
        best = int(np.argmax(gained[:, ~left_out].mean(axis=1)))
        unseen[left_out] = gained[best, left_out]
    if not is_clear(unseen, cases.session):
        return None
    return cases.blended[int(np.argmax(gained.mean(axis=1)))][0]


@torch.inference_mode()
def weigh(
    tried: Sequence[NeighbourSettings],
    predictor: Predictor,
    train: Sessions | Selection,
    valid: Sessions,
    repeats: RepeatTerm | None = None,
) -> WeighedCases:
    """Return the ranks of validation cases for each of the settings and each weight.

    Args:
        tried: Settings of neighbours; all with the same number of candidates.
        predictor: As for `choose_blend`.
        train: As for `choose_blend`.
        valid: As for `choose_blend`.
        repeats: As for `choose_blend`.
    """
    index = neighbour_index(tried[0], predictor.catalogue, train)
    neighbours = [SessionNeighbours(index, settings) for settings in tried]
    parts = [
        [_Cases.of(part, scored, known, repeats) for known in (None, *neighbours)]
        for part in scored_cases(predictor, valid)
        for scored in [_Scored.of(part, temperature_of(repeats))]
    ]
    if not parts:
        return WeighedCases(np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    alone = np.concatenate([cases[0].ranks(0.0) for cases in parts])
    blended = [
        (_settings(weight, settings), np.concatenate([c[at].ranks(weight) for c in parts]))
        for at, settings in enumerate(tried, start=1)
        for weight in WEIGHTS
    ]
    return WeighedCases(np.concatenate([cases[0].session for cases in parts]), alone, blended)


def _settings(weight: float, neighbours: NeighbourSettings) -> BlendSettings:
    return BlendSettings(weight, neighbours, NORMALIZING, VOTES)


@dataclass(frozen=True)
class _Scored:
    """Scores of some cases, and what all blends need of them."""

    log_p: Tensor  # (cases, N) log p of the model
    target: Floats  # (cases,) that of the target
    best: Floats  # (cases, K) the highest

    @classmethod
    def of(cls, part: ScoredCases, temperature: float) -> "_Scored":
        """Keep so many of the highest scores that 20 are left without votes and window."""
        scores = part.scores / temperature
        longest = int(part.windows.lengths.max(initial=0))
        best = largest(scores, min(LIST_LENGTH + VOTES + longest, scores.size(1)))[0]
        highest = torch.topk(best, min(NORMALIZING, best.size(1)), dim=1)[0]
        total = torch.logsumexp(highest, dim=1, keepdim=True)
        log_p = scores.sub_(total)
        targets = torch.from_numpy(np.maximum(part.target, 0)).unsqueeze(1)
        return cls(log_p, log_p.gather(1, targets).squeeze(1).numpy(), (best - total).numpy())


@dataclass(frozen=True)
class _Cases:
    """Some cases with what the ranks of their targets depend on.

    An entry is an item of a case that is in its window or among its votes.
    """

    session: NDArray[np.int64]  # (cases,)
    known: NDArray[np.bool_]  # (cases,) the catalogue has the target
    target: Floats  # (cases,) log p of the target in the model
    target_entry: NDArray[np.int64]  # (cases,) -1 where it is no entry
    best: Floats  # (cases, K) highest log p of the model
    voted: NDArray[np.bool_]  # (cases,) there are votes
    case: NDArray[np.int64]  # (entries,)
    score: Floats  # (entries,) log p in the model
    vote: Floats  # (entries,) log of the neighbours' share, -inf where there is none
    bonus: Floats  # (entries,)

    @classmethod
    def of(
        cls,
        part: ScoredCases,
        scored: _Scored,
        neighbours: SessionNeighbours | None,
        repeats: RepeatTerm | None,
    ) -> "_Cases":
        windows, cases = part.windows.lists(), len(part.session)
        on_top = RepeatTerm() if repeats is None else repeats.calibrated()
        bonuses = [on_top.bonuses(window) for window in windows]
        votes: list[dict[int, float]] = [{}] * cases
        if neighbours is not None:
            shares = neighbours.shares(part.windows, VOTES)
            logs = np.log(shares.scores).tolist()
            ends = shares.offsets.tolist()
            items = shares.items.tolist()
            votes = [dict(zip(items[a:b], logs[a:b], strict=True)) for a, b in pairwise(ends)]
        entries = [
            (case, item, votes[case].get(item, -np.inf), bonuses[case].get(item, 0.0))
            for case in range(cases)
            for item in {**bonuses[case], **votes[case]}
        ]
        case_of, item_of, vote, bonus = (np.array(column) for column in zip(*entries, strict=True))
        score = scored.log_p[torch.from_numpy(case_of), torch.from_numpy(item_of)]
        is_target = np.flatnonzero(item_of == part.target[case_of])
        target_entry = np.full(cases, -1)
        target_entry[case_of[is_target]] = is_target
        return cls(
            session=part.session,
            known=part.target >= 0,
            target=scored.target,
            target_entry=target_entry,
            best=scored.best,
            voted=np.array([bool(row) for row in votes]),
            case=case_of,
            score=score.numpy(),
            vote=vote.astype(np.float32),
            bonus=bonus.astype(np.float32),
        )

    def ranks(self, weight: float) -> NDArray[np.int64]:
        """Return the conservative ranks of the targets: (cases,) int64, exact up to 20."""
        shift = np.where(self.voted, np.log1p(-weight), 0).astype(np.float32)
        plain = self.score + shift[self.case]
        entries = plain
        if weight > 0:
            entries = np.logaddexp(plain, self.vote + np.float32(np.log(weight)))
        entries = entries + self.bonus
        target = np.where(self.target_entry >= 0, entries[self.target_entry], self.target + shift)
        above = (self.best + shift[:, None] >= target[:, None]).sum(axis=1)
        # an entry stands where its vote and its bonus put it, not where the model does
        moved = (entries >= target[self.case]).astype(np.int64) - (plain >= target[self.case])
        above += np.bincount(self.case, moved, minlength=len(above)).astype(np.int64)
        return np.where(self.known, above, UNRANKED)
