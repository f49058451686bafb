"""Coverage, repetition and places of clicks are those of the lists."""

import pytest
from prometheus_client import CollectorRegistry

from service.feedback.list_watch import (
    ATTRIBUTION_MS,
    REMEMBERED_LISTS,
    REMEMBERED_USERS,
    WINDOW_LISTS,
    ListWatch,
    ShownList,
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def watch(registry: CollectorRegistry) -> ListWatch:
    return ListWatch(registry)


def shown(*items: str, at: int = 0, list_id: str = "a-1") -> ShownList:
    return ShownList(at, list_id, items)


def test_items_of_the_list_before_are_repeated(
    watch: ListWatch, registry: CollectorRegistry
) -> None:
    watch.add_list("ada", shown("tent", "stove", "mat"))
    watch.add_list("bob", shown("tent"))  # another user
    watch.add_list("ada", shown("stove", "tent", "lamp"))
    watch.add_list("ada", shown("mat"))  # was in the list before the last one

    count = {
        repeated: registry.get_sample_value("recsys_shown_items_total", {"repeated": repeated})
        for repeated in ("true", "false")
    }
    assert count == {"true": 2, "false": 3 + 1 + 1 + 1}


def test_coverage_counts_the_items_of_a_full_window(
    watch: ListWatch, registry: CollectorRegistry
) -> None:
    """Each list has one of 200 items in turn, and one of two items that all others have."""
    for number in range(WINDOW_LISTS + 1):
        watch.add_list(f"user-{number}", shown(f"item-{number % 200}", f"top-{number % 2}"))

    assert registry.get_sample_value("recsys_shown_distinct_items") == 200 + 2
    # the most shown hundredth are two items: half of all places
    assert registry.get_sample_value("recsys_shown_top_share") == 1 / 2


def clicked_places(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    """Return the number of clicks on a list, and the sum of their places."""
    return (
        registry.get_sample_value("recsys_clicked_place_count"),
        registry.get_sample_value("recsys_clicked_place_sum"),
    )


def test_a_click_has_its_place_in_the_list_it_names_else_in_the_newest_with_the_item(
    watch: ListWatch, registry: CollectorRegistry
) -> None:
    watch.add_list("ada", shown("mat", "lamp", "tent", at=0, list_id="a-1"))
    watch.add_list("ada", shown("stove", "tent", at=1, list_id="a-2"))
    watch.add_list("ada", shown("stove", at=2, list_id="a-3"))

    watch.add_click("ada", 3, "tent", list_id="a-1")  # place 3
    watch.add_click("ada", 3, "tent", list_id=None)  # place 2
    watch.add_click("ada", 3, "tent", list_id="unknown")  # place 2

    assert clicked_places(registry) == (3, 3 + 2 + 2)


def test_a_click_without_a_list_of_the_last_half_hour_is_on_none(
    watch: ListWatch, registry: CollectorRegistry
) -> None:
    watch.add_list("ada", shown("tent", at=0))
    watch.add_click("ada", ATTRIBUTION_MS, "tent", None)
    watch.add_click("ada", ATTRIBUTION_MS + 1, "tent", None)
    watch.add_click("ada", 1, "stove", None)
    watch.add_click("bob", 1, "tent", None)
    watch.forget("ada")
    watch.add_click("ada", 1, "tent", None)

    assert clicked_places(registry) == (1, 1)
    missed = registry.get_sample_value("recsys_list_clicks_total", {"shown": "false"})
    assert missed == 4


def test_the_lists_that_are_remembered_are_bounded(
    watch: ListWatch, registry: CollectorRegistry
) -> None:
    for number in range(REMEMBERED_LISTS + 1):
        watch.add_list("ada", shown(f"item-{number}"))
    for number in range(REMEMBERED_USERS - 1):
        watch.add_list(f"user-{number}", shown("tent"))
    watch.add_click("ada", 1, "item-0", None)  # its list has made place for newer ones
    watch.add_click("ada", 1, "item-1", None)
    watch.add_list("one more", shown("tent"))
    watch.add_click("ada", 1, "item-1", None)  # so have the lists of the user

    assert clicked_places(registry) == (1, 1)
