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

from recsys.bundle.load import read_index_file
from recsys.errors import BundleRefused
from recsys.model.gru4rec import ModelSize, SessionRNN, unit
from recsys.retrieval import exact as retrieval
from recsys.retrieval import int8 as int8_codes
from recsys.retrieval.candidates import KINDS, CandidateIndex, IndexSettings, with_bias
from recsys.retrieval.exact import ExactScan, RankingQuery, Reranked, Retrieval, TopK, queries_of
from recsys.retrieval.item_lists import REACH, ItemLists
from training.retrieval.build_index import build_index

ITEMS, HIDDEN, COMMON = 300, 8, 30
ORDER = 1e-5  # scores closer than this may change places


def vectors(scale: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    matrix = torch.randn(ITEMS, HIDDEN, generator=draw)
    return (unit(matrix) if scale else matrix), torch.randn(ITEMS, generator=draw)


def reads(rows: int, seed: int = 5) -> Tensor:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


def whole(kind: str, matrix: Tensor, bias: Tensor) -> CandidateIndex:
    """An index of which every cell is looked at, or lists of everything."""
    if kind == "lists":
        return listing(matrix, bias, ITEMS - COMMON)
    return build_index(matrix, bias, kind, 3.0).looking_at(ITEMS)


def listing(matrix: Tensor, bias: Tensor, length: int) -> ItemLists:
    """The first items are common; an item's list holds those that come after it, in a circle."""
    common = np.arange(COMMON)
    after = np.arange(ITEMS)[:, None] + np.arange(length)
    lists = COMMON + after % (ITEMS - COMMON)
    vectors = with_bias(matrix.numpy()[common], bias.numpy()[common] / 3.0)
    lists, common = lists.astype(np.int32), common.astype(np.int32)
    parts = torch.from_numpy(lists), torch.from_numpy(common), torch.from_numpy(vectors)
    return ItemLists(*parts, IndexSettings("lists", 3.0, probes=1))


def clicks(rows: int) -> list[list[int]]:
    return [[7, 20 + row] for row in range(rows)]


def exact_scan(matrix: Tensor, bias: Tensor) -> ExactScan:
    return ExactScan(SessionRNN(ModelSize(ITEMS, HIDDEN)), matrix, bias)


def made(kind: str, scale: float, few: int = 40) -> Retrieval:
    """few: lies below and above what the drawn filters allow."""
    matrix, bias = vectors(scale)
    exact = ExactScan(SessionRNN(ModelSize(ITEMS, HIDDEN, scale=scale)), matrix, bias)
    return exact if kind == "exact" else Reranked(whole(kind, matrix, bias), exact, scale, few)


WAYS = {(kind, scale): made(kind, scale) for kind in ("exact", *KINDS) for scale in (0.0, 9.0)}


def by_hand(
    read: Tensor, scale: float, wish: RankingQuery
) -> tuple[list[int], NDArray[np.float64]]:
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


def check(found: TopK, read: Tensor, scale: float, wish: RankingQuery) -> None:
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
def wishes(draw: st.DrawFn) -> RankingQuery:
    excluded = draw(st.lists(st.integers(0, ITEMS - 1), max_size=30))
    return RankingQuery(draw(st.integers(1, 25)), excluded, draw(masks()))


@pytest.mark.parametrize(("kind", "scale"), WAYS)
@given(asked=st.lists(wishes(), min_size=1, max_size=4), seed=st.integers(0, 50))
def test_lists_are_those_of_brute_force(
    kind: str, scale: float, asked: list[RankingQuery], seed: int
) -> None:
    rows = reads(len(asked), seed)

    found = WAYS[kind, scale].best(rows, clicks(len(asked)), asked)

    for best, read, wish in zip(found, rows, asked, strict=True):
        check(best, read, scale, wish)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.integers(1, 40), seed=st.integers(0, 20))
def test_a_batch_changes_no_list(kind: str, rows: int, seed: int) -> None:
    """With few cells too, where something is overlooked: the same is, alone and in a batch."""
    retrieval = FEW_CELLS[kind]
    read = reads(rows, seed)

    together = retrieval.best(read, clicks(rows), [RankingQuery()] * rows)
    alone = [
        retrieval.best(row[None], [own], [RankingQuery()])[0]
        for row, own in zip(read, clicks(rows), strict=True)
    ]

    assert lists_of(together) == lists_of(alone)


@pytest.mark.parametrize("kind", KINDS)
@given(asked=st.lists(wishes(), min_size=2, max_size=6), seed=st.integers(0, 20))
def test_nor_does_what_others_in_the_batch_ask_for(
    kind: str, asked: list[RankingQuery], seed: int
) -> None:
    """A neighbour who excludes much has more looked up; that is nobody else's."""
    retrieval, read = FEW_CELLS[kind], reads(len(asked), seed)

    together = retrieval.best(read, clicks(len(asked)), asked)
    alone = [
        retrieval.best(row[None], [own], [wish])[0]
        for row, own, wish in zip(read, clicks(len(asked)), asked, strict=True)
    ]

    assert lists_of(together) == lists_of(alone)


@pytest.mark.parametrize("kind", KINDS)
def test_many_are_scored_a_few_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wish that leaves much out has many candidates; memory is bounded, lists are the same."""
    asked, read = [RankingQuery(5, range(100))] * 9, reads(9)
    together = FEW_CELLS[kind].best(read, clicks(9), asked)
    monkeypatch.setattr(retrieval, "AT_ONCE", 1)

    assert lists_of(FEW_CELLS[kind].best(read, clicks(9), asked)) == lists_of(together)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_no_number_shows_nothing_that_is_excluded(kind: str) -> None:
    read = torch.full((1, HIDDEN), torch.nan)

    (best,) = FEW_CELLS[kind].best(read, clicks(1), [RankingQuery(5, [3, 4, 5])])

    assert best.items == []


def test_queries_are_the_directions_that_the_model_scores_with() -> None:
    rows = torch.cat([reads(3), torch.zeros(1, HIDDEN), reads(1) * 1e-9])

    torch.testing.assert_close(torch.from_numpy(queries_of(rows, 9.0)), 9.0 * unit(rows))


def lists_of(found: Sequence[TopK]) -> list[list[int]]:
    return [best.items for best in found]


def few_cells(kind: str) -> Reranked:
    matrix, bias = vectors(0.0)
    index: CandidateIndex = listing(matrix, bias, 50)
    if kind != "lists":
        index = build_index(matrix, bias, kind, 3.0)
    return Reranked(index.looking_at(2), exact_scan(matrix, bias), 0.0)


FEW_CELLS = {kind: few_cells(kind) for kind in KINDS}


def test_a_cell_that_is_not_looked_at_is_overlooked() -> None:
    """So the laws above would notice an index that did not search."""
    matrix, bias = vectors(0.0)
    index = build_index(matrix, bias, "ivf", 3.0)
    rows = reads(20)

    one, all_of_them = (
        Reranked(index.looking_at(probes), exact_scan(matrix, bias), 0.0).best(
            rows, clicks(20), [RankingQuery()] * 20
        )
        for probes in (1, ITEMS)
    )

    assert lists_of(one) != lists_of(all_of_them)


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

    best = retrieval.best(torch.ones(1, HIDDEN), clicks(1), [RankingQuery(4, allowed=allowed)])[0]

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


@pytest.mark.parametrize("rows", [1, 4, 33])
@pytest.mark.parametrize("fast", [True, False])
def test_the_product_of_8_bit_codes_is_exact(
    rows: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's private function, which must still be there, and without it."""
    assert hasattr(torch, "_int_mm"), "torch has no _int_mm: measure and name another way"
    if not fast:
        monkeypatch.setattr(int8_codes, "_int_mm", None)
    draw = np.random.default_rng(rows)
    queries, codes = (
        draw.integers(-127, 128, (count, 136), dtype=np.int8) for count in (rows, 200)
    )
    queries[0], codes[0] = 127, -127  # the largest sum there can be
    out = torch.empty((rows, 200), dtype=torch.int32)

    int8_codes.int8_product(torch.from_numpy(queries), torch.from_numpy(codes).t(), out)

    assert np.array_equal(out.numpy(), queries.astype(np.int32) @ codes.T.astype(np.int32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_holds_no_index_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "retrieval.index"
    path.write_bytes(b"something else")

    with pytest.raises(BundleRefused, match="not a readable index"):
        read_index_file(path, IndexSettings(kind, 1.0, probes=1), ITEMS, HIDDEN)


def test_lists_hold_the_common_items_and_those_of_the_last_clicks() -> None:
    matrix, bias = vectors(0.0)
    index = listing(matrix, bias, length=3)
    queries = matrix.numpy()[:1] * 100  # the first item is by far the best of the common ones

    (one,) = index.candidates(queries, [[200, 40, 40]], 20)
    (two,) = index.looking_at(2).candidates(queries, [[200, 40, 40]], 20)

    assert [item for item in one.tolist() if item >= COMMON] == [70, 71, 72]
    assert [item for item in two.tolist() if item >= COMMON] == [70, 71, 72, 230, 231, 232]
    assert 0 in one.tolist()
    assert sum(item < COMMON for item in one.tolist()) == 20


def test_a_list_longer_than_lists_reach_is_exact() -> None:
    """Also where it is long because its best items are excluded."""
    matrix, bias = vectors(0.0)
    exact = exact_scan(matrix, bias)
    short = Reranked(listing(matrix, bias, length=3), exact, 0.0)
    read = reads(1)
    best = exact.best(read, clicks(1), [RankingQuery(REACH)])[0].items
    common = [item for item in best if item < COMMON]

    for wish in (RankingQuery(REACH + 1), RankingQuery(REACH, excluded=common)):
        assert short.best(read, clicks(1), [wish]) == exact.best(read, clicks(1), [wish])
    assert short.best(read, clicks(1), [RankingQuery()]) != exact.best(
        read, clicks(1), [RankingQuery()]
    )


@pytest.mark.parametrize(
    ("lists", "common", "vectors_", "says"),
    [
        (torch.zeros(ITEMS - 1, 2), torch.zeros(4), torch.zeros(4, 16), "holds no lists of 300"),
        (torch.zeros(ITEMS, 2), torch.zeros(4), torch.zeros(4, 32), "holds no lists of 300"),
        (torch.zeros(ITEMS), torch.zeros(4), torch.zeros(4, 16), "holds no lists of 300"),
        (torch.full((ITEMS, 2), ITEMS), torch.zeros(4), torch.zeros(4, 16), "that there are not"),
        (torch.zeros(ITEMS, 2), torch.full((4,), -1), torch.zeros(4, 16), "that there are not"),
    ],
)
def test_lists_that_name_what_there_is_not_are_refused(
    lists: Tensor, common: Tensor, vectors_: Tensor, says: str, tmp_path: Path
) -> None:
    settings = IndexSettings("lists", 1.0, probes=1)
    path = tmp_path / "retrieval.index"
    ItemLists(lists.int(), common.int(), vectors_, settings).write(path)

    with pytest.raises(BundleRefused, match=says):
        read_index_file(path, settings, ITEMS, HIDDEN)
