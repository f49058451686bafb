"""Old bundles are removed, never one that is published, needed, newer, or named by hand."""

from pathlib import Path

import pytest

from recsys.bundle.layout import MANIFEST
from recsys.bundle.pruning import prune
from recsys.bundle.registry import list_bundles, publish

DAYS = A, B, C, D, E = [f"2026010{day}-000000" for day in range(1, 6)]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for name in (*DAYS, "by-hand"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    publish(tmp_path, D)
    return tmp_path


def test_the_oldest_go_until_so_many_are_left(registry: Path) -> None:
    assert prune(registry, 4, [], registry / ".trash") == [A, B]
    assert not (registry / ".trash").exists()


def test_newer_needed_and_hand_named_bundles_stay(registry: Path) -> None:
    assert prune(registry, 1, [C], registry / ".trash") == [A, B]
    assert list_bundles(registry) == [C, D, E, "by-hand"]


def test_the_variants_of_an_experiment_stay(registry: Path) -> None:
    publish(registry, D, {B: 10})

    assert prune(registry, 1, [], registry / ".trash") == [A, C]


def test_nothing_is_removed_where_the_name_of_the_current_version_is_no_time(
    registry: Path,
) -> None:
    publish(registry, "by-hand")

    assert prune(registry, 1, [], registry / ".trash") == []


def test_nothing_is_removed_where_there_are_fewer(registry: Path) -> None:
    assert prune(registry, 6, [], registry / ".trash") == []
