"""Golden sessions: what this model answered when it was exported, asked again on every load.

Scores must agree within 1e-4 and the order wherever neighbouring scores differ by more than
1e-5, because processors round differently. Also the one place that turns a bundle folder into
a predictor that has proven itself.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.bundle.layout import GOLDEN
from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import distrusted
from recsys.errors import BundleRefused
from recsys.predictor import Predictor, SessionState
from recsys.retrieval.exact import ExactScan, RankingQuery
from recsys.retrieval.rerank import Reranked

SCORE_TOLERANCE = 1e-4
ORDER_TOLERANCE = 1e-5
LEAST_FOUND = 0.9  # of the golden lists' items, by an index that overlooks some
LIST_LENGTH = 20
WARM_UP_CALLS = 3  # TorchScript settles after two calls of a shape


@dataclass(frozen=True, slots=True)
class GoldenSession:
    """Item ids clicked, some perhaps unknown, and the list that must follow."""

    clicks: list[str]
    items: list[str]
    scores: list[float]


def ask(predictor: Predictor, clicks: Sequence[str]) -> GoldenSession:
    """What the predictor answers to these clicks now."""
    found = [predictor.catalogue.find(item_id) for item_id in clicks[-predictor.window :]]
    known = [item for item in found if item is not None]
    ranking = predictor.recommend(known, RankingQuery(k=LIST_LENGTH))
    items = predictor.catalogue.item_ids.take(ranking.items)
    return GoldenSession(list(clicks), items, ranking.scores)


def write_golden(path: Path, sessions: Iterable[GoldenSession]) -> None:
    lines = [json.dumps(asdict(session), ensure_ascii=False) + "\n" for session in sessions]
    path.write_text("".join(lines), encoding="utf-8")


def read_golden(path: Path) -> list[GoldenSession]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        sessions = [GoldenSession(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as broken:
        raise BundleRefused(f"{path} is not readable ({broken}).") from broken
    if not sessions:
        raise BundleRefused(f"{path} holds no golden session. Export the bundle anew.")
    return sessions


def check_golden(predictor: Predictor, sessions: Sequence[GoldenSession]) -> None:
    """Raises `BundleRefused` where an answer differs from the golden one."""
    for number, golden in enumerate(sessions, start=1):
        fault = difference(golden, ask(predictor, golden.clicks))
        if fault:
            raise BundleRefused(
                f"The bundle answers golden session {number} wrongly: {fault} "
                "The model does not compute here what it computed when it was exported."
            )


def difference(golden: GoldenSession, answer: GoldenSession) -> str | None:
    """A sentence where two lists differ by more than rounding, else None."""
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
    """The score at this place is further from both neighbours than rounding reaches.

    The last place has a neighbour that the list does not show, so it is never judged.
    """
    if place + 1 == len(scores):
        return False
    gaps = [scores[place] - scores[place + 1]]
    if place > 0:
        gaps.append(scores[place - 1] - scores[place])
    return min(gaps) > ORDER_TOLERANCE


def check_retrieval(predictor: Predictor, sessions: Sequence[GoldenSession]) -> None:
    """Raises `BundleRefused` where an index overlooks much of the golden lists."""
    wanted = [set(golden.items) for golden in sessions]
    found = [set(ask(predictor, golden.clicks).items) for golden in sessions]
    both = sum(len(want & have) for want, have in zip(wanted, found, strict=True))
    if both < LEAST_FOUND * sum(map(len, wanted)):
        raise BundleRefused(
            f"The bundle's index finds {both} of the {sum(map(len, wanted))} items in the golden "
            "lists. It belongs to other weights: export the bundle anew."
        )


def open_predictor(folder: Path) -> Predictor:
    """Bundle folder → predictor: files verified, golden sessions answered, shapes warmed up.

    Raises `BundleRefused`.
    """
    bundle = load_bundle(folder)
    with distrusted(folder):
        return _proven(bundle)


def _proven(bundle: Bundle) -> Predictor:
    """Has answered its golden sessions, and every shape of batch."""
    size = bundle.manifest.size
    retrieval = None
    if bundle.index is not None:
        exact = ExactScan(bundle.model, bundle.matrix, bundle.bias)
        retrieval = Reranked(bundle.index, exact, size.scale)
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
        blend=bundle.blend,
        retrieval=retrieval,
    )
    golden = read_golden(bundle.folder / GOLDEN)
    check_golden(predictor.with_exact_retrieval(), golden)
    if retrieval is not None:
        check_retrieval(predictor, golden)
    for sessions in (1, 2, 32):
        for _ in range(WARM_UP_CALLS):
            state = predictor.advance([SessionState([0])] * sessions)
            predictor.rank(state, [[0]] * sessions, [RankingQuery()] * sessions)
    return predictor
