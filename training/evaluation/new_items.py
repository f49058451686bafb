"""Evaluation of new items: cases whose target has no training click, beside two baselines.

Only a model with content has such items in its catalogue. Their targets are ranked among all items,
and among the new items alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions, reindex
from recsys.model.ranking import rows_at_once, target_ranks
from recsys.predictor import Predictor
from recsys.ragged import windows_along
from training.evaluation.appearance import HIDDEN, Appearance, appearance_of
from training.evaluation.evaluate import Progress, Scorer, in_chunks, scores_of
from training.evaluation.intervals import Estimate, estimate, ratio, resampled_sums, session_sums
from training.evaluation.trending import TrendingScorer, going_on

MODEL = "model"
SCORES_AT_ONCE = 4_000_000  # numbers held while ranking
CUTOFF = 20
AMONG = ("all", "new")
TIE_SHARE = 1e-3  # of popularity in the similarity, which orders equal items


@dataclass(frozen=True)
class NewItems:
    """Recall@20 of the cases whose target is new, and what the model gains over each baseline."""

    items: int  # of the catalogue, without a training click
    cases: int
    compared: Sequence[str]  # attributes that the similarity of content compares
    recall: Mapping[str, Mapping[str, Estimate]]  # recommender → among all or new items
    gains: Mapping[str, Mapping[str, Estimate]]  # baseline → model minus it, paired


class SimilarContent:
    """Baseline: the items whose attributes are most similar to those of the last click.

    Equal values of a categorical attribute count 1, numbers exp(−|difference| / deviation).
    """

    def __init__(self, predictor: Predictor) -> None:
        """Read the attributes of the catalogue that are content; vectors are not compared."""
        assert predictor.content is not None, "the model has content"
        catalogue = predictor.catalogue
        self.compared: list[str] = []
        self._codes: list[Tensor] = []
        self._numbers: list[Tensor] = []
        for field in predictor.content.schema.fields:
            attribute = catalogue.attributes.get(field.name)
            if attribute is None or field.kind not in ("categorical", "numeric"):
                continue
            self.compared.append(field.name)
            if field.kind == "categorical":
                encoded = attribute.array.dictionary_encode()
                codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
                self._codes.append(torch.from_numpy(codes))
            else:
                texts = attribute.array
                values = texts.cast("float64").fill_null(np.nan).to_numpy(zero_copy_only=False)
                deviation = np.nanstd(values)
                self._numbers.append(torch.from_numpy(values / max(deviation, 1e-12)))
        self._ties = torch.from_numpy(catalogue.popularity.astype(np.float64)) * TIE_SHARE

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the similarity of all items to the last known click, (cases, N) float64."""
        last, known = _last_known(sessions)
        scores = self._ties.repeat(len(last), 1)
        for codes in self._codes:
            own = codes[last].unsqueeze(1)
            scores += (codes == own) & (own >= 0) & known
        for numbers in self._numbers:
            distance = (numbers - numbers[last].unsqueeze(1)).abs()
            scores += torch.exp(-distance).nan_to_num(nan=0.0) * known
        return scores


class Newest:
    """Baseline: the items that appeared last, those with the last click's value of a field first.

    Items of the future are hidden by the caller.
    """

    def __init__(self, predictor: Predictor, appearance: Appearance, same: str | None) -> None:
        """Read the times; same: categorical attribute, None to count the time alone."""
        order = np.argsort(appearance.times_ms, kind="stable")
        place = np.empty(len(order))
        place[order] = np.arange(len(order))
        self._place = torch.from_numpy(place)
        self._codes = None
        if same is not None:
            encoded = predictor.catalogue.attributes[same].array.dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
            self._codes = torch.from_numpy(codes)

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the place of all items in the order of time, (cases, N) float64."""
        last, known = _last_known(sessions)
        scores = self._place.repeat(len(last), 1)
        if self._codes is not None:
            own = self._codes[last].unsqueeze(1)
            scores += len(self._place) * ((self._codes == own) & (own >= 0) & known)
        return scores


def _last_known(sessions: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """Return the last known click before each case, and whether there is one, (cases, 1)."""
    known = windows_along(sessions).known()
    filled = known.lengths > 0
    last = np.zeros(len(known), dtype=np.int64)
    last[filled] = known.items[known.offsets[1:][filled] - 1]
    return torch.from_numpy(last), torch.from_numpy(filled).unsqueeze(1)


def content_baselines(predictor: Predictor) -> tuple[dict[str, Scorer], Sequence[str]]:
    """Return the baselines of a model with content, and the attributes that are compared."""
    similar = SimilarContent(predictor)
    baselines: dict[str, Scorer] = {}
    if similar.compared:
        baselines["similar content"] = similar
    appearance = appearance_of(predictor)
    if appearance is not None and predictor.content is not None:
        baselines["newest"] = Newest(predictor, appearance, None)
        names = [f.name for f in predictor.content.schema.fields if f.kind == "categorical"]
        for name in names[:1]:
            baselines[f"newest, same {name}"] = Newest(predictor, appearance, name)
    return baselines, similar.compared


@torch.inference_mode()
def evaluate_new_items(
    predictor: Predictor, test: Sessions, progress: Progress | None = None
) -> NewItems | None:
    """Rank the targets without a training click.

    Args:
        predictor: A model; without content it has no such items.
        test: Sessions whose next clicks are ranked, items as codes of their log.
        progress: Called with (sessions done, sessions in all).

    Returns:
        The result, None where no target is new and in the catalogue.
    """
    counts = predictor.catalogue.counts
    is_new = torch.from_numpy(counts == 0)
    if predictor.content is None or not is_new.any():
        return None
    known = reindex(test, predictor.catalogue.item_ids)
    sessions = _with_new_targets(known, counts)
    if not len(sessions):
        return None
    baselines, compared = content_baselines(predictor)
    model = going_on(predictor, known)
    scorers: dict[str, Scorer | TrendingScorer] = {MODEL: model, **baselines}
    targets = torch.from_numpy(sessions.next_clicks.astype(np.int64))
    asked = is_new[targets.clamp(min=0)] & (targets >= 0)
    ranks = {key: torch.zeros_like(targets) for key in _keys(scorers)}
    appearance, moments = appearance_of(predictor), sessions.request_ms
    done = 0
    in_time, at_once = model is not predictor, rows_at_once(len(counts), SCORES_AT_ONCE)
    for chunk, cases in in_chunks(sessions, at_once, in_time=in_time):
        rows, times_ms = asked[cases], moments[cases.numpy()]
        for name, scorer in scorers.items():
            scores = scores_of(scorer, chunk, times_ms)[rows]
            if appearance is not None:
                appearance.hide(scores, times_ms[rows.numpy()])
            ranks[name, "all"][cases[rows]] = target_ranks(scores, targets[cases[rows]])[0]
            scores.masked_fill_(~is_new, HIDDEN)
            ranks[name, "new"][cases[rows]] = target_ranks(scores, targets[cases[rows]])[0]
        done += len(chunk)
        if progress is not None:
            progress(done, len(sessions))
    session = np.repeat(np.arange(len(sessions)), sessions.lengths - 1)[asked.numpy()]
    hits = {key: (rank[asked] <= CUTOFF).double().numpy() for key, rank in ranks.items()}
    return _result(int(is_new.sum()), session.astype(np.int32), hits, list(baselines), compared)


def _with_new_targets(sessions: Sessions, counts: NDArray[np.int64]) -> Sessions:
    """Return the sessions that have a target without a training click."""
    sessions = sessions.keep_sessions(sessions.lengths >= 2)
    targets = sessions.next_clicks
    new = (targets >= 0) & (counts[np.maximum(targets, 0)] == 0)
    session = np.repeat(np.arange(len(sessions)), sessions.lengths - 1)
    return sessions.keep_sessions(np.bincount(session[new], minlength=len(sessions)) > 0)


def _keys(scorers: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, among) for name in scorers for among in AMONG]


def _result(
    items: int,
    session: NDArray[np.int32],
    hits: Mapping[tuple[str, str], NDArray[np.float64]],
    baselines: Sequence[str],
    compared: Sequence[str],
) -> NewItems:
    """Return the recalls with intervals; hits: (recommender, among) → (cases,) 0 or 1."""
    sessions = int(session.max()) + 1
    keys = list(hits)
    columns = [session_sums(hits[key], session, sessions) for key in keys]
    columns.append(session_sums(np.ones(len(session)), session, sessions))
    sums = resampled_sums(np.stack(columns, axis=1))
    means = {key: ratio(sums[:, at], sums[:, -1]) for at, key in enumerate(keys)}
    values = {key: float(of_key.mean()) for key, of_key in hits.items()}
    return NewItems(
        items,
        len(session),
        compared,
        {
            name: {a: estimate(values[name, a], means[name, a]) for a in AMONG}
            for name in (MODEL, *baselines)
        },
        {
            name: {
                a: estimate(values[MODEL, a] - values[name, a], means[MODEL, a] - means[name, a])
                for a in AMONG
            }
            for name in baselines
        },
    )
