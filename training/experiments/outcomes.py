"""Outcomes of users by day, from an events folder.

The user is the unit that was assigned to a variant, so all statistics begin with the sums of a
user. A day begins with the experiment, and a list counts on the day when it was shown, also if it
is clicked later. Of each user and day only the first lists count (100 by default): a robot that
asks for thousands would otherwise be most of a variant. This limit does not depend on later days,
so what was seen at one look does not change at the next.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.events.attribution import shown_lists
from data.events.folder import DAY_SECONDS, HOUR_SECONDS, EventsFolder
from data.events.reading import read_events
from recsys.errors import BadInput
from recsys.events.attribution import WINDOW_SECONDS
from recsys.events.schemas import CLICKS, IMPRESSIONS

LISTS_PER_DAY = 100
UNUSABLE = "There is nothing to compare"
SHOWN = ["user_id", "list_id", "timestamp", "variant", "items"]
CLICKED = ["user_id", "item_id", "list_id", "timestamp", "event_type"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of users by day.

    Args:
        variants: Names; the main version is the first.
        variant_of: (users,) int64, index of the variant of each user.
        user: (rows,) int64, the user of each row.
        day: (rows,) int64, from 0.
        lists: (rows,) float64, lists that were shown.
        clicked: (rows,) float64, those of them that were clicked.
        conversions: (rows,) float64.
    """

    variants: Sequence[str]
    variant_of: NDArray[np.int64]
    user: NDArray[np.int64]
    day: NDArray[np.int64]
    lists: NDArray[np.float64]
    clicked: NDArray[np.float64]
    conversions: NDArray[np.float64]

    @property
    def days(self) -> int:
        """Return the number of days, the last one included."""
        return int(self.day.max()) + 1 if len(self.day) else 0


@dataclass(frozen=True, slots=True)
class OutcomeOptions:
    """Options of reading outcomes from events.

    Args:
        variants: Names; the main version is the first.
        begin: Epoch seconds; the first day begins then.
        end: Epoch seconds that all events precede.
        conversion: Event type of clicks that are conversions; None for none.
        day_seconds: Length of a day.
        window_seconds: See `shown_lists`.
        lists_per_day: Lists of one user and day that count.
    """

    variants: Sequence[str]
    begin: float
    end: float
    conversion: str | None = None
    day_seconds: float = DAY_SECONDS
    window_seconds: float = WINDOW_SECONDS
    lists_per_day: int = LISTS_PER_DAY

    def __post_init__(self) -> None:
        for name in ("day_seconds", "window_seconds", "lists_per_day"):
            if not getattr(self, name) > 0:
                raise BadInput("The options cannot be used", [f"{name} must be above 0."])

    def days_of(self, times: pd.Series) -> pd.Series:
        """Return the day of each time."""
        return ((times - self.begin) // self.day_seconds).astype("int64")


@dataclass(frozen=True, slots=True)
class ReadOutcomes:
    """Outcomes, and the users that are left out because several variants answered them."""

    outcomes: Outcomes
    crossed_users: int
    cut_lists: int  # beyond `lists_per_day`


def read_outcomes(events: Path, options: OutcomeOptions) -> ReadOutcomes:
    """Read the events of one experiment, day by day.

    Raises:
        BadInput: if the folder cannot be read, or has no list of these variants.
    """
    parts = [_read_day(events, options, day) for day in _days(events, options)]
    lists = pd.concat([part.lists for part in parts], ignore_index=True)
    if lists.empty:
        raise BadInput(
            UNUSABLE,
            [
                f"{events} has no list of the variants {', '.join(options.variants)} in this time. "
                "Run the service with RECSYS_FEEDBACK=stream and recsys collect, or give another "
                "--since or --experiment."
            ],
        )
    answered = lists.groupby("user_id")["variant"].nunique()
    crossed = answered.index[answered > 1]
    counted = lists[(lists["place"] < options.lists_per_day) & ~lists["user_id"].isin(crossed)]
    if counted.empty:
        raise BadInput(
            "There is nothing to compare",
            [
                f"each of the {len(crossed):,} users in {events} got lists of several variants in "
                "this time. Check that all processes have one RECSYS_USER_ID_SECRET and follow the "
                "same registry, or give another --since."
            ],
        )
    clicks = pd.concat([part.clicks for part in parts], ignore_index=True)
    came_from = clicks[clicks["shown"].isin(counted["list_id"])]
    hit = counted["list_id"].isin(came_from["shown"])
    rows = pd.concat(
        [
            counted[["user_id", "day"]].assign(lists=1.0, clicked=hit.astype(float)),
            _conversions(clicks, came_from, options),
        ],
        ignore_index=True,
    )
    rows = rows[rows["user_id"].isin(counted["user_id"])]  # the others have no variant
    sums = rows.fillna({"lists": 0.0, "clicked": 0.0, "conversions": 0.0})
    sums = sums.groupby(["user_id", "day"], as_index=False).sum()
    users = counted.groupby("user_id")["variant"].first()
    place_of = {name: place for place, name in enumerate(options.variants)}
    outcomes = Outcomes(
        options.variants,
        users.map(place_of).to_numpy().astype(np.int64),
        users.index.get_indexer(pd.Index(sums["user_id"])).astype(np.int64),
        sums["day"].to_numpy().astype(np.int64),
        *(sums[name].to_numpy(np.float64) for name in ("lists", "clicked", "conversions")),
    )
    cut = int((lists["place"] >= options.lists_per_day).sum())
    return ReadOutcomes(outcomes, len(crossed), cut)


@dataclass(frozen=True, slots=True)
class _Day:
    """Lists shown on a day, and its clicks with the lists that they came from."""

    lists: pd.DataFrame  # user_id, list_id, variant, day, place (of the list on the user's day)
    clicks: pd.DataFrame  # user_id, item_id, timestamp, event_type, shown


def _days(events: Path, options: OutcomeOptions) -> list[int]:
    """Return the days that may have events, and the first one; a wrong clock leaves years between.

    Of each hour of the folder, all days count that it touches.
    """
    folder, length = EventsFolder.open(events), options.day_seconds
    end = max(1, math.ceil((options.end - options.begin) / length))
    days = {0}
    for hour in {*folder.hours(IMPRESSIONS), *folder.hours(CLICKS)}:
        since = hour * HOUR_SECONDS - options.begin
        first, last = int(since // length), int((since + HOUR_SECONDS) // length)
        days.update(range(max(first, 0), min(last + 1, end)))
    return sorted(days)


def _read_day(events: Path, options: OutcomeOptions, day: int) -> _Day:
    """Read a day, and the lists of the time before it that its clicks may have come from."""
    begin = options.begin + day * options.day_seconds
    end = min(begin + options.day_seconds, options.end)
    since = max(options.begin, begin - max(options.day_seconds, options.window_seconds))
    shown = read_events(events, IMPRESSIONS, since, end, SHOWN)
    shown = shown.filter(pc.is_in(shown["variant"], pa.array(options.variants, pa.string())))
    clicks = read_events(events, CLICKS, begin, end, CLICKED).to_pandas()
    clicks = clicks.sort_values("timestamp", kind="stable", ignore_index=True)
    clicks = clicks.assign(shown=shown_lists(clicks, shown, options.window_seconds))
    lists = shown.drop_columns(["items"]).to_pandas()
    lists = lists[lists["timestamp"] >= begin].sort_values("timestamp", kind="stable")
    lists = lists.assign(day=day, place=lists.groupby("user_id").cumcount())
    return _Day(lists.drop(columns="timestamp"), clicks.drop(columns="list_id"))


def _conversions(
    clicks: pd.DataFrame, came_from: pd.DataFrame, options: OutcomeOptions
) -> pd.DataFrame:
    """Return the clicks that are conversions after a click on the same item in a list."""
    if options.conversion is None:
        return pd.DataFrame({"user_id": [], "day": [], "conversions": []})
    first = came_from.groupby(["user_id", "item_id"], as_index=False)["timestamp"].min()
    made = clicks[clicks["event_type"] == options.conversion]
    made = made.merge(first, on=["user_id", "item_id"], suffixes=("", "_first"))
    made = made[made["timestamp_first"] <= made["timestamp"]]
    return made[["user_id"]].assign(day=options.days_of(made["timestamp"]), conversions=1.0)
