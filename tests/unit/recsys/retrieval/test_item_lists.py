"""Item lists: the candidates come from the last clicks' lists and the common items."""

from tests.support.bundles.small_indexes import COMMON, circular_lists, item_vectors


def test_candidates_are_common_items_and_the_lists_of_the_last_clicks() -> None:
    matrix, bias = item_vectors(0.0)
    index = circular_lists(matrix, bias, length=3)
    queries = matrix.numpy()[:1] * 100  # item 0 is by far the best of the common items

    (one,) = index.candidates(queries, [[200, 40, 40]], 20)
    (two,) = index.with_probes(2).candidates(queries, [[200, 40, 40]], 20)

    assert [item for item in one.tolist() if item >= COMMON] == [70, 71, 72]
    assert [item for item in two.tolist() if item >= COMMON] == [70, 71, 72, 230, 231, 232]
    assert 0 in one.tolist()
    assert sum(item < COMMON for item in one.tolist()) == 20
