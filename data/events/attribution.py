"""Attribution in an events folder: the list of each click, by `recsys/events/attribution.py`."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.events.attribution import LATE_SECONDS, WINDOW_SECONDS


def shown_lists(
    clicks: pd.DataFrame, impressions: pa.Table, window_seconds: float = WINDOW_SECONDS
) -> pd.Series:
    """Return the id of the list of each click; missing where there is none.

    Args:
        clicks: `user_id`, `item_id`, `list_id`, `timestamp`; in the order of time.
        impressions: `user_id`, `list_id`, `timestamp`, `items`.
        window_seconds: Longest time from a list to a click that does not name its list.
    """
    shown = _shown_items(clicks, impressions)
    if shown.empty:  # pandas cannot merge by texts where both sides have no row
        return clicks["list_id"].where(pd.Series(False, clicks.index))
    key = ["user_id", "item_id", "list_id"]
    first = shown.groupby(key, as_index=False)["timestamp"].min()
    named = clicks.reset_index().merge(first, on=key, suffixes=("", "_shown"))
    named = named[named["timestamp_shown"] <= named["timestamp"] + LATE_SECONDS]
    found = clicks["list_id"].where(clicks.index.isin(named["index"]))
    unnamed = clicks[clicks["list_id"].isna()].drop(columns="list_id").reset_index()
    newest = pd.merge_asof(
        unnamed,
        shown.sort_values("timestamp", kind="stable"),
        on="timestamp",
        by=["user_id", "item_id"],
        tolerance=window_seconds,  # type: ignore[arg-type] # a float for times that are floats
    )
    found.loc[newest["index"]] = newest["list_id"].to_numpy()
    return found


def _shown_items(clicks: pd.DataFrame, impressions: pa.Table) -> pd.DataFrame:
    """Return a row for each item of each list that the click of its user may have come from."""
    by_users = pc.is_in(impressions["user_id"], pa.array(clicks["user_id"].unique(), pa.string()))
    impressions = impressions.filter(by_users).combine_chunks()
    items = pc.list_flatten(impressions["items"])
    lists = pc.list_parent_indices(impressions["items"])
    clicked = pc.is_in(items, pa.array(clicks["item_id"].unique(), pa.string()))
    rows = impressions.select(["user_id", "list_id", "timestamp"]).take(lists.filter(clicked))
    shown: pd.DataFrame = rows.append_column("item_id", items.filter(clicked)).to_pandas()
    return shown
