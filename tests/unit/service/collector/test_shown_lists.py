"""A click has the rank of its item in the list that it came from."""

from recsys.events.attribution import LATE_SECONDS, WINDOW_SECONDS
from service.collector.columns import StoredEvent
from service.collector.shown_lists import ClickedRanks
from service.feedback.entries import ClickEntry, FeedbackEntry, ImpressionEntry


def ranks_of(*events: tuple[float, FeedbackEntry]) -> list[int | None]:
    """Return the rank of each click of these events, which have a time in seconds."""
    found: list[int | None] = []
    ranks = ClickedRanks(lambda rank, variant: found.append(rank))
    ranks.add(StoredEvent(0, f"00-{seconds}", seconds, entry) for seconds, entry in events)
    ranks.add([])
    return found


def click(list_id: str | None = None) -> ClickEntry:
    return ClickEntry("ada", "1" * 16, 1, "b", None, list_id)


def shown(list_id: str, *items: str) -> ImpressionEntry:
    return ImpressionEntry("ada", "", list_id, "model", None, "model", items)


def test_a_click_never_counts_for_the_list_that_answers_it() -> None:
    """Lists repeat items of the session, so the answer may have the item that was clicked."""
    before, answer = shown("one", "a", "b"), shown("two", "b", "c")

    assert ranks_of((10.0, click()), (10.1, answer)) == [None]
    assert ranks_of((5.0, before), (10.0, click()), (10.1, answer)) == [2]
    assert ranks_of((5.0, before), (5.0 + WINDOW_SECONDS + 1, click())) == [None]


def test_a_list_that_is_named_may_be_logged_just_after_the_click() -> None:
    late = 10.0 + LATE_SECONDS

    assert ranks_of((10.0, click("one")), (late, shown("one", "a", "b"))) == [2]
    assert ranks_of((10.0, click("one")), (late + 0.1, shown("one", "a", "b"))) == [None]
