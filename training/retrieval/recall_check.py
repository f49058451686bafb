"""How a bundle finds its items: by the least work that overlooks almost nothing, as measured.

Every way is asked for the lists of hidden states from validation sessions, with none, half and
99 % of the items left out and with the best ones excluded, and its lists are compared with the
exact ones. One that falls short gives way to the next more exact one. Small catalogues are scored
whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.prepare import Prepared
from data.sessions import Sessions, reindex
from data.split import split_by_fraction
from recsys.predictor import Predictor
from recsys.ragged import windows_along
from recsys.retrieval.candidates import KINDS, CandidateIndex, Windows
from recsys.retrieval.exact import (
    EXACTLY,
    RankingQuery,
    Reranked,
    Retrieval,
    RetrievalSettings,
    TopK,
    queries_of,
)
from training.evaluation.evaluate import LIST_LENGTH, SCORES_AT_ONCE
from training.model.weights import Weights
from training.recipe import Recipe
from training.retrieval.build_index import build_index
from training.retrieval.build_item_lists import build_item_lists

SCANNED = 20_000  # items that are all scored in float32
QUANTISED = 200_000  # items above which cells are worth their trouble
STATES = 2_000
LEFT_OUT = (0.0, 0.5, 0.99)  # shares of the items
NEXT = "best 20"  # or the best items themselves, and no others
MOST_LISTED = 2_000_000  # items, as making the lists takes a time that grows with their square
PROBES = {"lists": (1, 2, 3, 5, 8), "ivf": (8, 16, 32, 64, 128, 256)}
LEAST = 0.99  # recall@20 of a way that is taken

Tried = Callable[[str], None]  # says what is measured


@dataclass(frozen=True)
class ChosenRetrieval:
    """How items are found, and the index that does so, None for exact."""

    settings: RetrievalSettings
    index: CandidateIndex | None = None


EVERY_ITEM = ChosenRetrieval(EXACTLY)


def choose_retrieval(
    recipe: Recipe,
    weights: Weights,
    predictor: Predictor,
    sessions: Sessions,
    tried: Tried = lambda said: None,
) -> ChosenRetrieval:
    """For the weights as shipped; sessions: in the codes of their log, for the states.

    A way that the recipe names must pass, too: where it falls short, the next more exact one stands
    in for it.
    """
    ways = _ways(recipe, len(predictor.catalogue))
    if predictor.blend is not None or not ways:
        return EVERY_ITEM  # neighbours need the scores of all items
    states, scale = states_along(predictor, sessions), weights.model.scale
    gate = RecallCheck(predictor, states)
    unit = float(np.linalg.norm(queries_of(states.reads, scale), axis=1).mean()) or 1.0
    refused: dict[str, float] = {}
    for kind in ways:
        tried(kind)
        index = _built(kind, predictor, scale, unit, tried)
        tried(kind)
        for probed in _probed(index):
            recall = gate.recall(Reranked(probed, predictor.exact_retrieval, scale), LEAST)
            if min(recall.values()) >= LEAST:
                settings = RetrievalSettings(kind, probed.settings, recall, len(states), refused)
                return ChosenRetrieval(settings, probed)
        refused[kind] = min(recall.values())
    return ChosenRetrieval(RetrievalSettings(states=len(states), refused=refused))


def _built(
    kind: str, predictor: Predictor, scale: float, unit: float, tried: Tried
) -> CandidateIndex:
    if kind != "lists":
        exact = predictor.exact_retrieval
        return build_index(exact.matrix, exact.bias, kind, unit)
    return build_item_lists(predictor, scale, unit, lambda share: tried(f"lists, {share:.0%}"))


def states_from(prepared: Prepared, recipe: Recipe) -> Sessions:
    """Sessions of whose states the measurement takes some: for validation, never of the test."""
    if prepared.valid is not None and len(prepared.valid):
        return prepared.valid
    return split_by_fraction(prepared.train, recipe.validation or 0.1).test


@dataclass(frozen=True)
class States:
    """Of sessions: what was read, and from what."""

    reads: Tensor  # (S, H), the top layer's outputs
    clicks: Windows  # S windows of known items

    def __len__(self) -> int:
        return len(self.reads)


class RecallCheck:
    """Recall@20 of a way of finding items, against every item in float32."""

    def __init__(self, predictor: Predictor, states: States, seed: int = 1) -> None:
        self._states = states
        self._rows = max(SCORES_AT_ONCE // len(predictor.catalogue), 1)
        self._wishes = {
            f"{share:g}": [RankingQuery(LIST_LENGTH, allowed=mask)] * len(states)
            for share, mask in zip(LEFT_OUT, masks(len(predictor.catalogue), seed), strict=True)
        }
        exact = predictor.exact_retrieval
        self._wanted = {name: self._lists(exact, asked) for name, asked in self._wishes.items()}
        best = self._wanted[f"{LEFT_OUT[0]:g}"]
        self._wishes[NEXT] = [RankingQuery(LIST_LENGTH, own.items) for own in best]
        self._wanted[NEXT] = self._lists(exact, self._wishes[NEXT])

    def recall(self, retrieval: Retrieval, least: float = 0.0) -> dict[str, float]:
        """What is left out → share of the exact lists that is found.

        Nothing more is measured after the first recall below `least`.
        """
        found: dict[str, float] = {}
        for name, wishes in self._wishes.items():
            found[name] = recall = _shared(self._wanted[name], self._lists(retrieval, wishes))
            if recall < least:
                break
        return found

    def _lists(self, retrieval: Retrieval, wishes: Sequence[RankingQuery]) -> list[TopK]:
        reads, clicks = self._states.reads, self._states.clicks
        parts = [slice(at, at + self._rows) for at in range(0, len(reads), self._rows)]
        return [
            best
            for part in parts
            for best in retrieval.best(reads[part], clicks[part], wishes[part])
        ]


def masks(items: int, seed: int) -> Iterator[NDArray[np.bool_] | None]:
    """What may be found when each share of `LEFT_OUT` may not."""
    rng = np.random.default_rng(seed)
    for share in LEFT_OUT:
        yield None if share == 0 else rng.random(items) >= share


@torch.inference_mode()
def states_along(predictor: Predictor, sessions: Sessions) -> States:
    """After clicks of sessions taken evenly, about STATES of them; those that clicked nothing known
    are left out."""
    known = reindex(sessions.keep_sessions(sessions.lengths >= 2), predictor.catalogue.item_ids)
    cases = known.lengths - 1
    share = min(1.0, STATES / max(int(cases.sum()), 1))
    picked = np.flatnonzero(np.diff(np.floor(np.arange(len(known) + 1) * share)))
    taken = [known[at] for at in picked.tolist()]
    reads, windows = predictor.reads_along(taken), windows_along(taken, predictor.window).known()
    some = np.flatnonzero(windows.lengths > 0)
    clicks = [windows.part(at, at + 1).items.tolist() for at in some.tolist()]
    return States(reads[torch.from_numpy(some)], clicks)


def _ways(recipe: Recipe, items: int) -> Sequence[str]:
    """To be tried one after another; none where every item is scored anyway."""
    if recipe.retrieval == "exact":
        return ()
    if recipe.retrieval != "auto":
        return KINDS[KINDS.index(recipe.retrieval) :]
    if items <= SCANNED:
        return ()
    no_gain = {"ivf"} if items <= QUANTISED else {"lists"} if items > MOST_LISTED else set()
    return [kind for kind in KINDS if kind not in no_gain]


def _probed(index: CandidateIndex) -> Iterator[CandidateIndex]:
    """The same index, looked at ever more closely."""
    for probes in PROBES.get(index.settings.kind, (0,)):
        yield index.looking_at(probes)


def _shared(wanted: Sequence[TopK], found: Sequence[TopK]) -> float:
    both = sum(len(set(w.items) & set(f.items)) for w, f in zip(wanted, found, strict=True))
    longest = sum(len(best.items) for best in wanted)
    return both / longest if longest else 1.0
