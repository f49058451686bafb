"""Golden sessions: lists that the model gave at export, compared again on every load.

Scores must agree within 1e-4, and the order wherever neighbouring scores differ by more than 1e-5,
because processors round differently. `open_predictor` turns a bundle folder into a verified
predictor.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recsys.bundle.layout import GOLDEN
from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import refuse_failures
from recsys.errors import BundleRefused
from recsys.model.event_types import NO_EVENT_TYPES
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend
from recsys.predictor import Predictor, SessionState
from recsys.retrieval.exact import RankingQuery
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rerank import Reranked

SCORE_TOLERANCE = 1e-4
ORDER_TOLERANCE = 1e-5
MIN_RECALL = 0.9  # of the items of the golden lists, for an approximate index
LIST_LENGTH = 20
WARM_UP_CALLS = 3  # TorchScript settles after two calls of a shape


@dataclass(frozen=True, slots=True)
class GoldenSession:
    """Clicked item ids, some of them unknown, the types of the clicks, and the expected list."""

    clicks: list[str]
    items: list[str]
    scores: list[float]
    events: list[str | None] = field(default_factory=list)  # empty where the model has no types


def compute_golden_session(
    predictor: Predictor, clicks: Sequence[str], events: Sequence[str | None] = ()
) -> GoldenSession:
    """Return the list that the predictor gives after these clicks, of these types if there are."""
    recent = slice(-predictor.window, None)
    known = predictor.known(clicks[recent], events[recent] if events else None)
    ranking = predictor.recommend(known, RankingQuery(k=LIST_LENGTH))
    items = predictor.catalogue.item_ids.take(ranking.items)
    return GoldenSession(list(clicks), items, ranking.scores, list(events))


def write_golden(path: Path, sessions: Iterable[GoldenSession]) -> None:
    """Write one JSON object a line."""
    lines = [json.dumps(_values(session), ensure_ascii=False) + "\n" for session in sessions]
    path.write_text("".join(lines), encoding="utf-8")


def _values(session: GoldenSession) -> dict[str, object]:
    values = asdict(session)
    return values if session.events else {n: v for n, v in values.items() if n != "events"}


def read_golden(path: Path) -> list[GoldenSession]:
    """Read at least one golden session; raise `BundleRefused`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        sessions = [GoldenSession(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as broken:
        raise BundleRefused(f"{path} is not readable ({broken}).") from broken
    if not sessions:
        raise BundleRefused(f"{path} holds no golden session. Train the bundle anew.")
    return sessions


def check_golden(predictor: Predictor, sessions: Sequence[GoldenSession]) -> None:
    """Raise `BundleRefused` where an answer differs from the golden one."""
    for number, golden in enumerate(sessions, start=1):
        answer = compute_golden_session(predictor, golden.clicks, golden.events)
        fault = difference(golden, answer)
        if fault:
            raise BundleRefused(
                f"The bundle answers golden session {number} wrongly: {fault} "
                "The model does not compute here what it computed when it was exported."
            )


def difference(golden: GoldenSession, answer: GoldenSession) -> str | None:
    """Return a sentence where two lists differ by more than rounding, else None."""
    if len(golden.items) != len(answer.items):
        return f"{len(answer.items)} items instead of {len(golden.items)}."
    for place, (want, have) in enumerate(zip(golden.scores, answer.scores, strict=True), start=1):
        if not abs(want - have) <= SCORE_TOLERANCE:  # also catches NaN
            return f"score {have:.6f} instead of {want:.6f} at place {place}."
    for place, (want_id, have_id) in enumerate(zip(golden.items, answer.items, strict=True)):
        if want_id != have_id and _apart(golden.scores, place):
            return f"item {have_id!r} instead of {want_id!r} at place {place + 1}."
    return None


def _apart(scores: Sequence[float], place: int) -> bool:
    """Return whether the score here differs from both neighbours by more than rounding.

    The neighbour of the last place is not in the list, so the last place is never compared.
    """
    if place + 1 == len(scores):
        return False
    gaps = [scores[place] - scores[place + 1]]
    if place > 0:
        gaps.append(scores[place - 1] - scores[place])
    return min(gaps) > ORDER_TOLERANCE


def check_retrieval(predictor: Predictor, sessions: Sequence[GoldenSession]) -> None:
    """Raise `BundleRefused` where the index misses much of the golden lists.

    Items of the session do not count, because they are candidates without the index.

    Args:
        predictor: predictor with the index, without a blend: items of neighbours are candidates
            without the index, too.
        sessions: golden sessions of this predictor.
    """
    answers = [compute_golden_session(predictor, g.clicks, g.events) for g in sessions]
    wanted = [set(golden.items).difference(golden.clicks) for golden in sessions]
    found = [set(answer.items).difference(answer.clicks) for answer in answers]
    hits = sum(len(want & have) for want, have in zip(wanted, found, strict=True))
    if hits < MIN_RECALL * sum(map(len, wanted)):
        raise BundleRefused(
            f"The bundle's index finds {hits} of the {sum(map(len, wanted))} items in the golden "
            "lists. It belongs to other weights: train the bundle anew."
        )


def open_predictor(folder: Path) -> Predictor:
    """Return a predictor of a bundle: files verified, golden sessions compared, warmed up.

    Raises:
        BundleRefused: the bundle is incomplete, damaged or gives other answers.
    """
    bundle = load_bundle(folder)
    with refuse_failures(folder):
        return _verified(bundle)


def _verified(bundle: Bundle) -> Predictor:
    """Return a predictor after its golden sessions and a batch of every shape."""
    repeats = bundle.manifest.repeats
    predictor = unverified_predictor(bundle, repeats, bundle.blend)
    golden = read_golden(bundle.folder / GOLDEN)
    check_golden(predictor.with_exact_retrieval(), golden)
    if bundle.index is not None:
        if bundle.blend is None:
            check_retrieval(predictor, golden)
        else:
            alone = unverified_predictor(bundle, repeats, None)
            check_retrieval(alone, _without_blend(predictor, golden))
    for sessions in (1, 2, 32):
        for _ in range(WARM_UP_CALLS):
            state = predictor.advance([SessionState([0])] * sessions)
            predictor.rank(state, [[0]] * sessions, [RankingQuery()] * sessions)
    return predictor


def unverified_predictor(
    bundle: Bundle, repeats: RepeatTerm | None, blend: Blend | None
) -> Predictor:
    """Return a predictor with the bundle's model and retrieval, and these additions."""
    size = bundle.manifest.size
    predictor = Predictor(
        bundle.model,
        bundle.matrix,
        bundle.bias,
        bundle.catalogue,
        inputs=bundle.inputs,
        layers=size.layers,
        state_width=size.state_width,
        window=bundle.manifest.window,
        model_id=bundle.manifest.model_id,
        repeats=repeats,
        blend=blend,
        recent=bundle.recent,
        event_types=bundle.manifest.event_types or NO_EVENT_TYPES,
        content=bundle.content,
    )
    if bundle.index is None:
        return predictor
    exact = predictor.exact_retrieval
    bias = predictor.for_index().exact_retrieval.bias
    scan = ItemScan(exact.matrix, bias, bundle.catalogue.order_by_attributes)
    return predictor.with_retrieval(Reranked(bundle.index, exact, size.scale, scan))


def _without_blend(predictor: Predictor, sessions: Sequence[GoldenSession]) -> list[GoldenSession]:
    """Return the golden sessions with the exact lists of the model without neighbours."""
    alone = predictor.with_blend(None)
    return [compute_golden_session(alone, g.clicks, g.events) for g in sessions]
