"""Choose how a bundle finds its items: the cheapest retrieval that passes a recall check.

The check computes the lists of hidden states from validation sessions, with none, half and 99 % of
the items excluded and with the best items excluded, and compares them with the exact lists. Where a
kind falls short, the next more exact kind is tried. A small catalogue is scored exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from data.batches.selection import without_last
from data.prepare import Prepared
from data.sessions import Sessions, coded, reindex
from recsys.allowed_items import AllowedItems
from recsys.model.ranking import rows_at_once
from recsys.predictor import Predictor
from recsys.ragged import windows_along
from recsys.retrieval.candidates import KINDS, CandidateIndex, Windows
from recsys.retrieval.exact import EXACT_RETRIEVAL, RankingQuery, Retrieval, RetrievalSettings, TopK
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.rerank import Reranked, query_vectors
from training.evaluation.evaluate import LIST_LENGTH, SCORES_AT_ONCE
from training.evaluation.sample import sampled
from training.model.weights import Weights
from training.parallel.processes import ALONE, Processes
from training.recipe import Recipe
from training.retrieval.build_item_lists import MAX_PAIRED_ITEMS, build_item_lists

MAX_EXACT_ITEMS = 20_000  # a catalogue of at most so many items is scored exactly
STATES = 2_000  # hidden states that recall is measured on, fewer in a very large catalogue
EXCLUDED_SHARES = (0.0, 0.5, 0.99)  # of the items
BEST_EXCLUDED = "best 20"  # name of the check that excludes the best items and no others
PROBES = {"lists": (1, 2, 3, 5, 8)}
MIN_RECALL = 0.99  # recall@20 that a retrieval must reach in every check

OnAttempt = Callable[[str], None]  # takes the name of what is measured
Listed = TypeVar("Listed")  # TopK, or TopK | None


@dataclass(frozen=True)
class ChosenRetrieval:
    """Settings of the retrieval, and its index."""

    settings: RetrievalSettings
    index: CandidateIndex | None = None  # None for exact scoring


EVERY_ITEM = ChosenRetrieval(EXACT_RETRIEVAL)


def choose_retrieval(
    recipe: Recipe,
    weights: Weights,
    predictor: Predictor,
    sessions: Sessions,
    on_attempt: OnAttempt = lambda text: None,
    processes: Processes = ALONE,
) -> ChosenRetrieval:
    """Build and measure indexes until one passes.

    A kind that the recipe names must pass, too. If it falls short, the next more exact kind
    replaces it.

    Args:
        recipe: names a kind, or `auto`, or `exact`.
        weights: the final weights.
        predictor: predictor on these weights.
        sessions: sessions whose hidden states are used, with the item codes of their own log.
        on_attempt: called with the name of what is measured.
        processes: they share the work on item lists; the first one measures.

    Returns:
        The first retrieval whose recall is at least `MIN_RECALL`, else exact scoring.
    """
    kinds = _kinds_to_try(recipe, len(predictor.catalogue))
    if not kinds:
        return EVERY_ITEM
    if predictor.blend is not None:
        # the items of neighbours are found without the index, so it must find those of the model
        predictor = predictor.with_blend(None).with_repeats(None)
    states, scale = validation_states(predictor, sessions), weights.model.scale
    check = RecallCheck(predictor, states) if processes.is_first else None
    lengths = np.linalg.norm(query_vectors(states.hidden, scale), axis=1)
    bias_unit = processes.of_first(float(lengths.mean()) or 1.0)
    refused: dict[str, float] = {}
    for kind in kinds:
        on_attempt(kind)
        index = build_index(kind, predictor, scale, bias_unit, on_attempt, processes)
        on_attempt(kind)
        for probed in _with_more_probes(index):
            measured = None
            if check is not None:
                reranked = Reranked(probed, predictor.exact_retrieval, scale)
                measured = check.recall(reranked, MIN_RECALL)
            recall: dict[str, float] = processes.of_first(measured)
            if min(recall.values()) >= MIN_RECALL:
                settings = RetrievalSettings(kind, probed.settings, recall, len(states), refused)
                return ChosenRetrieval(settings, probed)
        refused[kind] = min(recall.values())
    return ChosenRetrieval(RetrievalSettings(states=len(states), refused=refused))


def build_index(
    kind: str,
    predictor: Predictor,
    scale: float,
    bias_unit: float,
    on_attempt: OnAttempt,
    processes: Processes = ALONE,
) -> CandidateIndex:
    predictor = predictor.for_index()
    if kind != "lists":
        exact = predictor.exact_retrieval
        return Int8Index.of(exact.matrix, exact.bias, bias_unit)
    return build_item_lists(
        predictor,
        scale,
        bias_unit,
        lambda share: on_attempt(f"lists, {share:.0%}"),
        processes=processes,
    )


def states_from(prepared: Prepared, recipe: Recipe) -> Sessions:
    """Return the validation sessions that recall is measured on, never sessions of the test."""
    if prepared.valid is not None and len(prepared.valid):
        return sampled(prepared.valid, recipe.max_cases).sessions
    last = without_last(prepared.train, recipe.validation or 0.1)[1]
    return sampled(last, recipe.max_cases).sessions


@dataclass(frozen=True)
class States:
    """Hidden states and the clicks that they were computed from."""

    hidden: Tensor  # (B, H) float32, the top layer's outputs
    clicks: Windows  # B windows of known items

    def __len__(self) -> int:
        return len(self.hidden)


class RecallCheck:
    """Recall@20 of a retrieval, relative to the exact lists."""

    def __init__(self, predictor: Predictor, states: States) -> None:
        """Compute the exact lists.

        Args:
            predictor: the trained model.
            states: hidden states to make lists for.
        """
        self._states = states
        self._rows = rows_at_once(len(predictor.catalogue), SCORES_AT_ONCE)
        sets = allowed_sets(len(predictor.catalogue), seed=1)
        self._queries = {
            f"{share:g}": [RankingQuery(LIST_LENGTH, allowed=allowed)] * len(states)
            for share, allowed in zip(EXCLUDED_SHARES, sets, strict=True)
        }
        exact = predictor.exact_retrieval
        self._exact = {
            name: self._in_parts(exact.top_k, queries) for name, queries in self._queries.items()
        }
        best = self._exact[f"{EXCLUDED_SHARES[0]:g}"]
        self._queries[BEST_EXCLUDED] = [RankingQuery(LIST_LENGTH, top_k.items) for top_k in best]
        self._exact[BEST_EXCLUDED] = self._in_parts(exact.top_k, self._queries[BEST_EXCLUDED])

    def recall(self, retrieval: Retrieval, least: float = 0.0) -> dict[str, float]:
        """Return the share of the exact lists that a retrieval finds.

        Args:
            retrieval: the retrieval to measure.
            least: the measurement ends after the first recall below it.

        Returns:
            Excluded part of the items → recall, 0 to 1.
        """
        result: dict[str, float] = {}
        for name, queries in self._queries.items():
            quick = self._quick_lists(retrieval, queries)
            result[name] = recall = _recall(self._exact[name], quick)
            if recall < least:
                break
        return result

    def _quick_lists(
        self, retrieval: Retrieval, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """Return the lists; None for those that the retrieval leaves to an exact scan."""
        return self._in_parts(retrieval.quick_top_k, queries)

    def _in_parts(
        self,
        top_k: Callable[[Tensor, Windows, Sequence[RankingQuery]], Sequence[Listed]],
        queries: Sequence[RankingQuery],
    ) -> list[Listed]:
        hidden, clicks = self._states.hidden, self._states.clicks
        parts = [slice(at, at + self._rows) for at in range(0, len(hidden), self._rows)]
        return [
            listed for part in parts for listed in top_k(hidden[part], clicks[part], queries[part])
        ]


def allowed_sets(items: int, seed: int) -> Iterator[AllowedItems | None]:
    """Yield the items that stay allowed for each of `EXCLUDED_SHARES`; None for all."""
    rng = np.random.default_rng(seed)
    for share in EXCLUDED_SHARES:
        yield None if share == 0 else AllowedItems.of_mask(rng.random(items) >= share)


@torch.inference_mode()
def validation_states(predictor: Predictor, sessions: Sessions) -> States:
    """Return the hidden states after clicks of evenly chosen sessions, about `STATES` of them.

    Above `MAX_PAIRED_ITEMS` items there are fewer, so that their exact lists cost no more than
    those of `STATES` states over so many items. A state before the first click on a known item is
    left out.
    """
    items = len(predictor.catalogue)
    states = STATES * min(1.0, MAX_PAIRED_ITEMS / items)
    known = reindex(sessions.keep_sessions(sessions.lengths >= 2), predictor.catalogue.item_ids)
    cases = known.lengths - 1
    share = min(1.0, states / max(int(cases.sum()), 1))
    picked = np.flatnonzero(np.diff(np.floor(np.arange(len(known) + 1) * share)))
    codes = coded(known, predictor.event_types)
    hidden = predictor.hidden_along([codes[at] for at in picked.tolist()])
    chosen = [known[at] for at in picked.tolist()]
    windows = windows_along(chosen, predictor.window).known()
    rows = np.flatnonzero(windows.lengths > 0)
    clicks = [windows.part(at, at + 1).items.tolist() for at in rows.tolist()]
    return States(hidden[torch.from_numpy(rows)], clicks)


def _kinds_to_try(recipe: Recipe, items: int) -> Sequence[str]:
    """Return the kinds in the order to try them; none where every item is scored anyway."""
    if recipe.retrieval == "exact":
        return ()
    if recipe.retrieval != "auto":
        return KINDS[KINDS.index(recipe.retrieval) :]
    return () if items <= MAX_EXACT_ITEMS else KINDS


def _with_more_probes(index: CandidateIndex) -> Iterator[CandidateIndex]:
    """Yield the index with ever more probes; once where its kind has none."""
    for probes in PROBES.get(index.settings.kind, (0,)):
        yield index.with_probes(probes)


def _recall(exact: Sequence[TopK], lists: Sequence[TopK | None]) -> float:
    shared = sum(
        len(set(all_of.items).intersection((found or all_of).items))
        for all_of, found in zip(exact, lists, strict=True)
    )
    longest = sum(len(top_k.items) for top_k in exact)
    return shared / longest if longest else 1.0
