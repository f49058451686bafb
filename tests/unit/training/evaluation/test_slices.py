import numpy as np

from training.evaluation.slices import by_popularity, by_position, deciles


def test_positions_count_the_clicks_before_the_target() -> None:
    before = np.array([1, 2, 1, 7, 10, 50, 51, 400], dtype=np.int32)

    found = {part.name: np.flatnonzero(part.mask).tolist() for part in by_position(before)}

    assert found == {"1": [0, 2], "2": [1], "6–10": [3, 4], "21–50": [5], "51+": [6, 7]}


def test_every_case_is_in_one_position_and_one_popularity_group() -> None:
    before = np.arange(1, 80, dtype=np.int32)
    target = np.arange(-1, 78, dtype=np.int32) % 30 - 1
    counts = (np.arange(30) * 7 % 11 + 1).astype(np.int64)

    for parts in (by_position(before), by_popularity(target, counts)):
        assert (np.sum([part.mask for part in parts], axis=0) == 1).all()


def test_a_decile_holds_a_tenth_of_the_training_clicks() -> None:
    """10 clicks on item 3, 5 on 1 and 4, 1 on each of 80 others: 100 clicks in all."""
    counts = np.ones(85, dtype=np.int64)
    counts[3], counts[1], counts[4] = 10, 5, 5
    counts[[0, 2]] = 0  # known from an earlier training, no longer clicked

    found = deciles(counts)

    assert found[3] == 0  # its clicks are numbers 1 to 10
    assert found[[1, 4]].tolist() == [1, 1]  # 11 to 15 and 16 to 20
    assert [int(counts[found == n].sum()) for n in range(10)] == [10] * 10
    assert (found[[0, 2]] == 9).all()


def test_an_item_of_most_clicks_leaves_deciles_empty() -> None:
    """One item has 60 of 100 clicks; their middle, 30, lies at the start of the fourth decile."""
    counts = np.array([60, 40], dtype=np.int64)

    assert deciles(counts).tolist() == [3, 8]  # 60 + 40 / 2 = 80
    parts = by_popularity(np.array([0, 1, 1, -1], dtype=np.int32), counts)
    assert [(part.name, int(part.mask.sum()), part.items, part.clicks) for part in parts] == [
        ("4", 1, 1, (60, 60)),
        ("9", 2, 1, (40, 40)),
        ("not in training", 1, None, None),
    ]


def test_groups_without_a_case_are_left_out() -> None:
    parts = by_popularity(np.array([1], dtype=np.int32), np.array([60, 40], dtype=np.int64))

    assert [part.name for part in parts] == ["9"]
