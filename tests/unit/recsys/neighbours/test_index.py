import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.sessions import reindex
from recsys.errors import BundleRefused
from recsys.neighbours.index import ARRAYS, NeighbourIndex, read_index
from tests.support.training.builders import words
from training.baselines.session_knn import build_neighbour_index

IDS = tuple("abc")
TRAIN = reindex(words("ab", "aba", "ac", "b"), IDS)
INDEX = build_neighbour_index(TRAIN, len(IDS), candidates=2)


def test_an_item_keeps_its_newest_sessions_and_all_others_are_dropped() -> None:
    """Session ab is older than two others that hold a, and than two that hold b."""
    holders = [part.tolist() for part in np.split(INDEX.holders, INDEX.starts[1:-1])]

    assert holders == [[1, 0], [2, 0], [1]]  # of aba, ac, b
    assert INDEX.clicks.tolist() == [0, 1, 0, 0, 2, 1]
    assert INDEX.offsets.tolist() == [0, 3, 5, 6]
    assert INDEX.places.tolist() == [0, 2, 0, 1, 1]  # a stands last at the end of aba
    assert INDEX.age_days * 86_400 == pytest.approx([2, 1, 0])
    assert INDEX.rarity == pytest.approx(np.log([4 / 3, 4 / 3, 4 / 1]))


def test_a_very_long_session_keeps_its_last_500_clicks() -> None:
    index = build_neighbour_index(reindex(words("c" + "ab" * 250), IDS), len(IDS), candidates=2)

    assert index.clicks.tolist() == [0, 1] * 250
    assert index.places.tolist() == [498, 499]


def test_a_written_index_is_read_and_memory_mapped(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.safetensors"
    INDEX.write(path)

    found = read_index(path, len(IDS), candidates=2)

    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(INDEX, name))
    assert str(path) in Path("/proc/self/maps").read_text()


def changed(name: str, at: int, value: float) -> NDArray[np.generic]:
    array: NDArray[np.generic] = getattr(INDEX, name).copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        (
            "starts",
            INDEX.starts.astype(np.int64),
            "starts must be a one-dimensional array of int32",
        ),
        (
            "age_days",
            INDEX.age_days.reshape(1, -1),
            "age_days must be a one-dimensional array of float32",
        ),
        ("rarity", INDEX.rarity[1:], "it has 2 items, the catalogue 3"),
        ("places", INDEX.places[1:], "different lengths"),
        ("starts", changed("starts", -1, 9), "starts must rise from 0 to 5"),
        ("offsets", changed("offsets", 1, 9), "offsets must rise from 0 to 6"),
        ("age_days", changed("age_days", 0, np.nan), "age_days must be finite"),
        ("rarity", changed("rarity", 0, -1), "rarity must be finite and not below 0"),
        ("holders", changed("holders", 0, 3), "holders must be from 0 to 2"),
        ("clicks", changed("clicks", 0, -1), "clicks must be from 0 to 2"),
        ("places", changed("places", 0, 3), "places must lie within"),
        ("places", changed("places", 0, 1), "does not stand at its position"),
        ("holders", changed("holders", 0, 0), "newest first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_cannot_be_looked_up_are_refused(
    tmp_path: Path, name: str, array: NDArray[np.generic], said: str
) -> None:
    path = tmp_path / "neighbours.safetensors"
    broken: NeighbourIndex = dataclasses.replace(INDEX, **{name: array})  # type: ignore[arg-type]
    broken.write(path)

    with pytest.raises(BundleRefused, match=said):
        read_index(path, len(IDS), candidates=2)


def test_more_candidates_than_the_settings_allow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.safetensors"
    INDEX.write(path)

    with pytest.raises(BundleRefused, match="an item has 2 sessions, the settings allow 1"):
        read_index(path, len(IDS), candidates=1)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00" * 20)

    with pytest.raises(BundleRefused, match="cannot be read"):
        read_index(tmp_path / "x", 3, 2)
