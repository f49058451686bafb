import numpy as np

from recsys.ragged import RaggedArray, rows_of, spread, windows_along


def listed(rows: RaggedArray) -> list[list[int]]:
    return [rows.items[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]


def session(*items: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(items, dtype=np.int32)


def test_spread_lays_ranges_end_to_end() -> None:
    found = spread(np.array([7, 0, 3]), np.array([2, 0, 3]))

    assert found.tolist() == [7, 8, 3, 4, 5]
    assert spread(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).tolist() == []


def test_a_window_holds_the_clicks_before_each_next_click() -> None:
    found = windows_along([session(4, 5, 6), session(7), session(8, 9)])

    assert listed(found) == [[4], [4, 5], [8]]


def test_an_unknown_click_counts_for_the_length_of_the_window_and_is_then_dropped() -> None:
    windows = windows_along([session(1, 2, -1, 3, 4)], window=2)

    assert listed(windows) == [[1], [1, 2], [2, -1], [-1, 3]]
    assert listed(windows.known()) == [[1], [1, 2], [2], [3]]


def test_a_part_holds_the_same_rows() -> None:
    rows = rows_of([[1, 2], [], [3], [4, 5]])

    assert listed(rows.part(1, 3)) == [[], [3]]
    assert rows.row_of_entry.tolist() == [0, 0, 2, 3, 3]
