"""However candidates are found, a list holds the best allowed items in their exact order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from recsys import int8_codes
from recsys.candidates import KINDS, CandidateIndex, IndexSettings, read_candidates
from recsys.errors import BundleRefused
from recsys.model import ModelSize, SessionRNN, unit
from recsys.retrieval import Best, ExactScan, Reranked, Retrieval, Wish
from training.index import build_index

ITEMS, HIDDEN = 300, 8
ORDER = 1e-5  # scores closer than this may change places


def vectors(scale: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    matrix = torch.randn(ITEMS, HIDDEN, generator=draw)
    return (unit(matrix) if scale else matrix), torch.randn(ITEMS, generator=draw)


def reads(rows: int, seed: int = 5) -> Tensor:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


def whole(kind: str, matrix: Tensor, bias: Tensor) -> CandidateIndex:
    """An index of which every cell is looked at."""
    index = build_index(matrix, bias, kind, 3.0)
    return index.looking_at(ITEMS)


def exact_scan(matrix: Tensor, bias: Tensor) -> ExactScan:
    return ExactScan(SessionRNN(ModelSize(ITEMS, HIDDEN)), matrix, bias)


def made(kind: str, scale: float, few: int = 40) -> Retrieval:
    """few: lies below and above what the drawn filters allow."""
    matrix, bias = vectors(scale)
    exact = ExactScan(SessionRNN(ModelSize(ITEMS, HIDDEN, scale=scale)), matrix, bias)
    return exact if kind == "exact" else Reranked(whole(kind, matrix, bias), exact, scale, few)


WAYS = {(kind, scale): made(kind, scale) for kind in ("exact", *KINDS) for scale in (0.0, 9.0)}


def by_hand(read: Tensor, scale: float, wish: Wish) -> tuple[list[int], NDArray[np.float64]]:
    """Best items and the scores of all, in float64, one item at a time."""
    matrix, bias = vectors(scale)
    query = read.double() / (read.double().norm() / scale if scale else 1)
    scores = np.array([float(bias[i]) + float(matrix[i].double() @ query) for i in range(ITEMS)])
    free = [
        item
        for item in range(ITEMS)
        if item not in wish.excluded and (wish.allowed is None or wish.allowed[item])
    ]
    return sorted(free, key=lambda item: -scores[item])[: wish.k], scores


def check(found: Best, read: Tensor, scale: float, wish: Wish) -> None:
    wanted, scores = by_hand(read, scale, wish)
    assert len(found.items) == len(wanted)
    np.testing.assert_allclose(found.scores, scores[found.items], atol=1e-4)
    for have, want in zip(found.items, wanted, strict=True):
        assert have == want or abs(scores[have] - scores[want]) < ORDER


def masks() -> st.SearchStrategy[NDArray[np.bool_] | None]:
    share = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0])
    seeds = st.integers(0, 1000)
    drawn = st.builds(lambda p, s: np.random.default_rng(s).random(ITEMS) < p, share, seeds)
    return st.one_of(st.none(), drawn)


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    excluded = draw(st.lists(st.integers(0, ITEMS - 1), max_size=30))
    return Wish(draw(st.integers(1, 25)), excluded, draw(masks()))


@pytest.mark.parametrize(("kind", "scale"), WAYS)
@given(asked=st.lists(wishes(), min_size=1, max_size=4), seed=st.integers(0, 50))
def test_lists_are_those_of_brute_force(
    kind: str, scale: float, asked: list[Wish], seed: int
) -> None:
    rows = reads(len(asked), seed)

    found = WAYS[kind, scale].best(rows, asked)

    for best, read, wish in zip(found, rows, asked, strict=True):
        check(best, read, scale, wish)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.integers(1, 40), seed=st.integers(0, 20))
def test_a_batch_changes_no_list(kind: str, rows: int, seed: int) -> None:
    """With few cells too, where something is overlooked: the same is, alone and in a batch."""
    retrieval = FEW_CELLS[kind]
    read = reads(rows, seed)

    together = retrieval.best(read, [Wish()] * rows)
    alone = [retrieval.best(row.unsqueeze(0), [Wish()])[0] for row in read]

    assert lists(together) == lists(alone)


@pytest.mark.parametrize("kind", KINDS)
@given(asked=st.lists(wishes(), min_size=2, max_size=6), seed=st.integers(0, 20))
def test_nor_does_what_others_in_the_batch_ask_for(kind: str, asked: list[Wish], seed: int) -> None:
    """A neighbour who excludes much has more looked up; that is nobody else's."""
    retrieval, read = FEW_CELLS[kind], reads(len(asked), seed)

    together = retrieval.best(read, asked)
    alone = [retrieval.best(row[None], [wish])[0] for row, wish in zip(read, asked, strict=True)]

    assert lists(together) == lists(alone)


def lists(found: Sequence[Best]) -> list[list[int]]:
    return [best.items for best in found]


def few_cells(kind: str) -> Reranked:
    matrix, bias = vectors(0.0)
    index = build_index(matrix, bias, kind, 3.0)
    return Reranked(index.looking_at(2), exact_scan(matrix, bias), 0.0)


FEW_CELLS = {kind: few_cells(kind) for kind in KINDS}


def test_a_cell_that_is_not_looked_at_is_overlooked() -> None:
    """So the laws above would notice an index that did not search."""
    matrix, bias = vectors(0.0)
    index = build_index(matrix, bias, "ivf", 3.0)
    rows = reads(20)

    one, all_of_them = (
        Reranked(index.looking_at(probes), exact_scan(matrix, bias), 0.0).best(rows, [Wish()] * 20)
        for probes in (1, ITEMS)
    )

    assert lists(one) != lists(all_of_them)


@pytest.mark.parametrize("kind", ["exact", *KINDS])
def test_equal_scores_stand_in_the_order_of_their_index(kind: str) -> None:
    matrix, bias = torch.ones(ITEMS, HIDDEN), torch.zeros(ITEMS)
    bias[[7, 200]] = 1.0
    exact = exact_scan(matrix, bias)
    retrieval: Retrieval = exact
    if kind != "exact":
        retrieval = Reranked(whole(kind, matrix, bias), exact, 0.0)
    allowed = np.zeros(ITEMS, dtype=bool)
    allowed[[200, 7, 5, 3, 9]] = True

    best = retrieval.best(torch.ones(1, HIDDEN), [Wish(4, allowed=allowed)])[0]

    assert best.items == [7, 200, 3, 5]


@pytest.mark.parametrize("items", [64, 200, 207, 300])
def test_8_bit_codes_in_several_blocks_find_the_best(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole blocks, a shorter last one, and a few items of no group."""
    monkeypatch.setattr(int8_codes, "BLOCK", 64)
    draw = np.random.default_rng(items)
    stored = draw.standard_normal((items, 16), dtype=np.float32)
    queries = draw.standard_normal((5, 16), dtype=np.float32)

    found = int8_codes.Int8Codes.of(stored).search(queries, 20)[1]

    for query, row in zip(queries, found, strict=True):
        assert len(set(row.tolist())) == len(row)
        assert set(np.argsort(-(stored @ query))[:5].tolist()) <= set(row.tolist())


def test_a_file_that_holds_no_codes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "retrieval.index"
    path.write_bytes(b"something else")

    with pytest.raises(BundleRefused, match="not a readable index"):
        read_candidates(path, IndexSettings("int8", 1.0), ITEMS, HIDDEN)
