"""Clicks from before the service, as events: what the first model learns from."""

from data.events.folder import EventsFolder
from data.events.writing import EventsWriter, only_writer
from data.shop.visitors import ShopDays
from recsys.events.schemas import CLICKS, SCHEMAS

DAY_SECONDS = 60  # visits begin in the first half of a day, and end before the next one
SECONDS_BETWEEN_CLICKS = 0.25
SHARD = "00"
USER_PREFIX = "first-log-"


def write_first_log(folder: EventsFolder, shop: ShopDays, days: int, until: float) -> None:
    """Write the visits of the first days into an events folder, as if they had been collected.

    Args:
        folder: The folder.
        shop: The shop.
        days: Number of days, of `DAY_SECONDS` each.
        until: End of the last day, in seconds since 1970.
    """
    clicks = shop.clicks[shop.clicks["visit"] < days * shop.visits].copy()
    day, of_day = divmod(clicks["visit"], shop.visits)
    clicks["click"] = clicks.groupby("visit").cumcount() + 1
    begins = until - (days - day) * DAY_SECONDS + of_day / shop.visits * DAY_SECONDS / 2
    seconds = begins + (clicks["click"] - 1) * SECONDS_BETWEEN_CLICKS
    clicks["milliseconds"] = (seconds * 1000).astype(int)
    clicks = clicks.sort_values("milliseconds", kind="stable", ignore_index=True)
    clicks["timestamp"] = clicks["milliseconds"] / 1000
    numbers = clicks["milliseconds"].astype(str) + "-" + clicks.index.astype(str)
    clicks["entry"] = SHARD + "-" + numbers
    clicks["user_id"] = USER_PREFIX + clicks["visit"].astype(str)
    columns = {
        name: clicks[name].tolist() if name in clicks else [None] * len(clicks)
        for name in SCHEMAS[CLICKS].names
    }
    with only_writer(folder.path):
        EventsWriter(folder).write({CLICKS: columns})
