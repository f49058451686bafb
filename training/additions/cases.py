"""Validation cases with the scores of all items, part after part, for fitting additions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions, coded, reindex
from recsys.model.ranking import rows_at_once
from recsys.predictor import Predictor
from recsys.ragged import RaggedArray, offsets_of, windows_along
from training.evaluation.appearance import appearance_of
from training.evaluation.evaluate import in_chunks, scores_of
from training.evaluation.trending import going_on

CASES = 20_000  # about so many validation cases, of sessions spread evenly over time
SCORES = 1 << 29  # of all cases; a large catalogue gets fewer cases
SCORES_AT_ONCE = 1 << 20  # so that the sums of exponentials stay in the processor's cache


@dataclass(frozen=True)
class ScoredCases:
    """Some validation cases with the scores of all items."""

    session: NDArray[np.int64]  # (cases,)
    target: NDArray[np.int64]  # (cases,) -1 where the catalogue lacks it
    windows: RaggedArray  # known items, oldest first
    scores: Tensor  # (cases, N) float32; the receiver may overwrite it
    time_ms: NDArray[np.int64]  # (cases,) of the request


def scored_cases(
    predictor: Predictor,
    valid: Sessions,
    most: int = CASES,
    *,
    with_unknown: bool = False,
    in_time: bool = False,
) -> Iterator[ScoredCases]:
    """Yield validation cases, of sessions spread evenly over time.

    Where clicks decay, the scores of a case have the counts of that time.

    Args:
        predictor: Predictor that was not trained on `valid`.
        valid: Sessions to validate on, items as codes of their log.
        most: About the highest number of cases.
        with_unknown: Yield cases without a known click, too; their window is empty.
        in_time: Yield the sessions in the order of time.
    """
    known = reindex(valid, predictor.catalogue.item_ids)
    scorer = going_on(predictor, known)
    sessions = known.keep_sessions(known.lengths >= 2)
    items = len(predictor.catalogue)
    wanted = min(most, max(SCORES // items, 1))
    every = max((len(sessions.items) - len(sessions)) // wanted, 1)
    sessions = sessions.keep_sessions(np.arange(len(sessions)) % every == 0)
    session = np.repeat(np.arange(len(sessions)), sessions.lengths - 1)
    targets, request_ms = sessions.next_clicks.astype(np.int64), sessions.request_ms
    appearance = appearance_of(predictor)
    in_time |= scorer is not predictor
    at_once, types = rows_at_once(items, SCORES_AT_ONCE), predictor.event_types
    for chunk, numbers in in_chunks(coded(sessions, types), at_once, in_time=in_time):
        clicked = [codes // types.count for codes in chunk]
        windows = windows_along(clicked, predictor.window).known()
        rows = np.flatnonzero(windows.lengths >= (0 if with_unknown else 1))
        if not len(rows):
            continue
        cases = numbers.numpy()[rows]
        filled = RaggedArray(offsets_of(windows.lengths[rows]), windows.items)
        times_ms = request_ms[numbers.numpy()]
        scores = scores_of(scorer, chunk, times_ms)[rows]
        if appearance is not None:
            appearance.hide(scores, times_ms[rows])
        yield ScoredCases(session[cases], targets[cases], filled, scores, times_ms[rows])
