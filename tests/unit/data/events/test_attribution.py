"""A click counts for a list that showed its item to its user before."""

import pandas as pd
import pyarrow as pa

from data.events.attribution import shown_lists


def test_a_click_belongs_to_the_list_it_names_else_to_the_newest_that_showed_the_item() -> None:
    impressions = pa.table(
        {
            "user_id": ["ada", "ada", "ada", "bob"],
            "list_id": ["one", "two", "three", "four"],
            "timestamp": [0.0, 10.0, 20.0, 20.0],
            "items": [["a", "b"], ["a", "c"], ["b"], ["a", "c"]],
        }
    )
    clicks = {
        (15.0, "ada", "a", None): "two",  # the newest, though one showed it, too
        (15.0, "ada", "b", None): "one",
        (25.0, "ada", "a", "one"): "one",  # named
        (25.0, "ada", "c", "one"): None,  # the named list did not show it
        (25.0, "ada", "a", "four"): None,  # a list of another user
        (25.0, "ada", "a", "lost"): None,
        (25.0, "ada", "d", None): None,
        (25.0, "bob", "b", None): None,
        (110.0, "ada", "a", None): "two",  # the window is 100 s
        (110.5, "ada", "c", None): None,
        (900.0, "ada", "b", "one"): "one",  # a named list has no window
        (19.5, "ada", "b", "three"): "three",  # it was logged just after the click
        (8.0, "ada", "a", "two"): None,  # no list is logged so late
    }
    clicks = dict(sorted(clicks.items(), key=lambda click: click[0][0]))
    rows = [
        dict(zip(("timestamp", "user_id", "item_id", "list_id"), c, strict=True)) for c in clicks
    ]

    found = shown_lists(pd.DataFrame(rows), impressions, window_seconds=100)

    assert [None if pd.isna(each) else each for each in found] == list(clicks.values())
