import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.model.ranking import UNRANKED, target_ranks, top_k

SCORES = st.lists(
    st.lists(st.integers(-3, 3).map(float), min_size=6, max_size=6), min_size=1, max_size=4
)


def test_scores_fall_and_ties_are_ordered_by_item_index() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0]])

    best, items = top_k(scores, 3)

    assert best.tolist() == [[3.0, 3.0, 2.0]]
    assert items.tolist() == [[1, 3, 2]]


def test_a_tie_across_the_cut_keeps_the_lowest_indices() -> None:
    scores = torch.tensor([[5.0] + [1.0] * 50 + [2.0]])

    _, items = top_k(scores, 4)

    assert items.tolist() == [[0, 51, 1, 2]]


def test_a_list_is_never_longer_than_the_catalogue() -> None:
    best, items = top_k(torch.tensor([[0.5, 0.7]]), 20)

    assert items.tolist() == [[1, 0]]
    assert best.shape == (1, 2)


@given(SCORES, st.integers(1, 8))
def test_top_k_is_a_stable_sort_cut_off(rows: list[list[float]], k: int) -> None:
    best, items = top_k(torch.tensor(rows), k)

    for row, chosen, found in zip(rows, items.tolist(), best.tolist(), strict=True):
        expected = sorted(range(len(row)), key=lambda item: (-row[item], item))[:k]
        assert chosen == expected
        assert found == [row[item] for item in expected]


@given(
    items=st.sampled_from([16_383, 16_384, 18_431, 40_000, 300_001]),
    kinds=st.sampled_from([2, 50, 10**9]),
    k=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_many_items_are_ranked_as_few_are(items: int, kinds: int, k: int, seed: int) -> None:
    """kinds: number of different scores; few of them give many ties."""
    random = np.random.default_rng(seed)
    scores = random.integers(kinds, size=(2, items)).astype(np.float32)
    scores[1, random.random(items) < 0.9] = -np.inf

    _, found = top_k(torch.from_numpy(scores)[0:2], k)

    for row, chosen in zip(scores, found.numpy(), strict=True):
        assert chosen.tolist() == np.argsort(-row, kind="stable")[:k].tolist()


def test_conservative_ranks_count_equals_as_better_standard_as_worse() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.5, 0.1]])

    conservative, standard = target_ranks(scores, torch.tensor([1]))

    assert conservative.item() == 3
    assert standard.item() == 2


def test_a_model_with_equal_scores_ranks_the_target_last() -> None:
    conservative, standard = target_ranks(torch.zeros(1, 100), torch.tensor([7]))

    assert conservative.item() == 100
    assert standard.item() == 1


def test_a_target_outside_the_catalogue_is_a_miss() -> None:
    conservative, standard = target_ranks(torch.tensor([[0.2, 0.1]]), torch.tensor([-1]))

    assert conservative.item() == standard.item() == UNRANKED


@given(SCORES)
def test_without_ties_the_rank_is_the_place_in_the_list(rows: list[list[float]]) -> None:
    scores = torch.tensor(rows)
    scores = scores + torch.arange(6) / 100  # all scores differ
    _, items = top_k(scores, 6)

    for target in range(6):
        targets = torch.full((len(rows),), target)
        conservative, standard = target_ranks(scores, targets)
        places = (items == target).nonzero()[:, 1] + 1
        assert conservative.tolist() == standard.tolist() == places.tolist()
