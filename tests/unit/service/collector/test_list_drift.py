"""Coverage and repetition are those of the lists."""

import pytest

from service.collector.columns import StoredEvent
from service.collector.list_drift import MAX_USERS, WINDOW_LISTS, ListDrift
from service.collector.metrics import CollectorMetrics
from service.feedback.entries import DeletionEntry, ImpressionEntry

METRICS = CollectorMetrics


@pytest.fixture
def metrics() -> CollectorMetrics:
    return CollectorMetrics()


@pytest.fixture
def drift(metrics: CollectorMetrics) -> ListDrift:
    return ListDrift(metrics)


def shown(user: str, *items: str) -> StoredEvent:
    entry = ImpressionEntry(user, "", "a.0", "model", None, "model", items)
    return StoredEvent(0, "1-0", 0.001, entry)


def items_of_lists(metrics: CollectorMetrics) -> tuple[float | None, float | None]:
    """Return the number of shown items that were repeated, and of the others."""
    name, read = "recsys_collect_shown_items_total", metrics.registry.get_sample_value
    return read(name, {"repeated": "true"}), read(name, {"repeated": "false"})


def test_items_of_the_list_before_are_repeated(drift: ListDrift, metrics: CollectorMetrics) -> None:
    drift.add([shown("ada", "tent", "stove", "mat"), shown("bob", "tent")])
    drift.add([shown("ada", "stove", "tent", "lamp")])
    drift.add([shown("ada", "mat")])  # was in the list before the last one
    drift.add([StoredEvent(0, "1-0", 0.001, DeletionEntry("bob")), shown("bob", "tent")])

    assert items_of_lists(metrics) == (2, 3 + 1 + 1 + 1 + 1)


def test_coverage_counts_the_items_of_a_full_window(
    drift: ListDrift, metrics: CollectorMetrics
) -> None:
    """Each list has one of 200 items in turn, and one of two items that all others have."""
    drift.add(
        shown(f"user-{number}", f"item-{number % 200}", f"top-{number % 2}")
        for number in range(WINDOW_LISTS + 1)
    )

    read = metrics.registry.get_sample_value
    assert read("recsys_collect_distinct_items") == 200 + 2
    # the most shown hundredth are two items: half of all places
    assert read("recsys_collect_top_share") == 1 / 2


def test_so_many_users_are_remembered(drift: ListDrift, metrics: CollectorMetrics) -> None:
    drift.add([shown("ada", "tent"), shown("bob", "tent"), shown("ada", "tent")])
    drift.add(shown(f"user-{number}", "mat") for number in range(MAX_USERS - 1))
    drift.add([shown("ada", "tent"), shown("bob", "tent")])  # bob was forgotten first

    assert items_of_lists(metrics) == (2, 2 + (MAX_USERS - 1) + 1)
