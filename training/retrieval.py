"""How a bundle finds its items: by the fewest bytes that overlook almost nothing, as measured.

Every way is asked for the lists of hidden states from validation sessions, with none, half and
99 % of the items left out, and its lists are compared with the exact ones. One that falls short
gives way to the next more exact one. Small catalogues are scored whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions, reindex
from data.split import split_by_fraction
from recsys.candidates import KINDS, PROBED, CandidateIndex
from recsys.predictor import Predictor
from recsys.retrieval import EXACTLY, Best, Reranked, Retrieval, RetrievalSettings, Wish, queries_of
from training.evaluate import LIST_LENGTH, SCORES_AT_ONCE
from training.index import build_index
from training.prepare import Prepared
from training.recipe import Recipe
from training.weights import Weights

SCANNED = 20_000  # items that are all scored in float32
QUANTISED = 200_000  # items that are all looked at, in fewer bits
STATES = 2_000
LEFT_OUT = (0.0, 0.5, 0.99)  # shares of the items
PROBES = {"hnsw": (64, 96, 128, 192, 256, 384), "ivf": (8, 16, 32, 64, 128, 256)}
LEAST = 0.99  # recall@20 of a way that is taken

Tried = Callable[[str], None]  # says what is measured


@dataclass(frozen=True)
class Chosen:
    """How items are found, and the index that does so, None for exact."""

    settings: RetrievalSettings
    index: CandidateIndex | None = None


EVERY_ITEM = Chosen(EXACTLY)


def choose_retrieval(
    recipe: Recipe,
    weights: Weights,
    predictor: Predictor,
    sessions: Sessions,
    tried: Tried = lambda said: None,
) -> Chosen:
    """For the weights as shipped; sessions: in the codes of their log, for the states.

    A way that the recipe names must pass, too: where it falls short, the next more exact one stands
    in for it.
    """
    shipped = weights.shipped()
    ways = _ways(recipe, len(predictor.catalogue))
    if predictor.blend is not None or not ways:
        return EVERY_ITEM  # neighbours need the scores of all items
    reads = some_reads(predictor, sessions)
    gate = Gate(predictor, reads)
    unit = float(np.linalg.norm(queries_of(reads, shipped.model.scale), axis=1).mean()) or 1.0
    refused: dict[str, float] = {}
    for kind in ways:
        tried(kind)
        index = build_index(shipped.matrix, shipped.bias, kind, unit)
        for probed in _probed(index):
            found = Reranked(probed, predictor.exact_retrieval, shipped.model.scale)
            recall = gate.recall(found, LEAST)
            if min(recall.values()) >= LEAST:
                settings = RetrievalSettings(kind, probed.settings, recall, len(reads), refused)
                return Chosen(settings, probed)
        refused[kind] = min(recall.values())
    return Chosen(RetrievalSettings(states=len(reads), refused=refused))


def retrieval_said(settings: RetrievalSettings) -> str:
    """How items are found, for the console."""
    tried = "".join(
        f" {kind} found {share:.4f} of them." for kind, share in settings.refused.items()
    )
    if settings.index is None:
        return f"Every item is scored exactly.{tried}"
    probes = f" with {settings.index.probes} probes" if settings.index.probes else ""
    return (
        f"Items are found by {settings.kind}{probes}: {min(settings.recall.values()):.4f} of the "
        f"exact lists at the least, over {settings.states:,} validation states.{tried}"
    )


def states_from(prepared: Prepared, recipe: Recipe) -> Sessions:
    """Sessions of whose states the measurement takes some: for validation, never of the test."""
    if prepared.valid is not None and len(prepared.valid):
        return prepared.valid
    return split_by_fraction(prepared.train, recipe.validation or 0.1).test


class Gate:
    """Recall@20 of a way of finding items, against every item in float32."""

    def __init__(self, predictor: Predictor, reads: Tensor, seed: int = 1) -> None:
        """reads: (S, H), the top layer's outputs to look for."""
        self._reads = reads
        self._rows = max(SCORES_AT_ONCE // len(predictor.catalogue), 1)
        self._wishes = [
            Wish(LIST_LENGTH, allowed=mask) for mask in masks(len(predictor.catalogue), seed)
        ]
        exact = predictor.exact_retrieval
        self._wanted = [self._lists(exact, wish) for wish in self._wishes]

    def recall(self, retrieval: Retrieval, least: float = 0.0) -> dict[str, float]:
        """Share of the items left out → share of the exact lists that is found.

        Nothing more is measured after the first recall below `least`.
        """
        found: dict[str, float] = {}
        for share, wish, wanted in zip(LEFT_OUT, self._wishes, self._wanted, strict=True):
            found[f"{share:g}"] = recall = _shared(wanted, self._lists(retrieval, wish))
            if recall < least:
                break
        return found

    def _lists(self, retrieval: Retrieval, wish: Wish) -> list[Best]:
        return [
            best
            for rows in torch.split(self._reads, self._rows)
            for best in retrieval.best(rows, [wish] * len(rows))
        ]


def masks(items: int, seed: int) -> Iterator[NDArray[np.bool_] | None]:
    """What may be found when each share of `LEFT_OUT` may not."""
    rng = np.random.default_rng(seed)
    for share in LEFT_OUT:
        yield None if share == 0 else rng.random(items) >= share


@torch.inference_mode()
def some_reads(predictor: Predictor, sessions: Sessions) -> Tensor:
    """(S, H): the top layer after clicks of sessions taken evenly, about STATES of them."""
    known = reindex(sessions.keep_sessions(sessions.lengths >= 2), predictor.catalogue.item_ids)
    cases = known.lengths - 1
    share = min(1.0, STATES / max(int(cases.sum()), 1))
    picked = np.flatnonzero(np.diff(np.floor(np.arange(len(known) + 1) * share)))
    reads = predictor.reads_along([known[at] for at in picked.tolist()])
    return reads[reads.abs().sum(dim=1) > 0]


def _ways(recipe: Recipe, items: int) -> Sequence[str]:
    """To be tried one after another; none where every item is scored anyway."""
    if recipe.retrieval == "exact":
        return ()
    if recipe.retrieval != "auto":
        return KINDS[KINDS.index(recipe.retrieval) :]
    if items <= SCANNED:
        return ()
    return KINDS if items > QUANTISED else [kind for kind in KINDS if kind not in PROBED]


def _probed(index: CandidateIndex) -> Iterator[CandidateIndex]:
    """The same index, looked at ever more closely."""
    for probes in PROBES.get(index.settings.kind, (0,)):
        yield index.looking_at(probes)


def _shared(wanted: Sequence[Best], found: Sequence[Best]) -> float:
    both = sum(len(set(w.items) & set(f.items)) for w, f in zip(wanted, found, strict=True))
    longest = sum(len(best.items) for best in wanted)
    return both / longest if longest else 1.0
