"""What a person typed about the click files → `ClickOptions`; refuses what contradicts itself."""

from typing import Any

from data.columns import EVENT_COLUMN, Columns
from recsys.cli_options import ClickArguments, ReadArguments
from training.prepare import ClickOptions

WITHOUT = "none"  # --session-column none


def click_options(typed: ClickArguments) -> ClickOptions:
    """Raises `BadInput` with every option that cannot be used."""
    return ClickOptions(
        **_reading(typed, split=typed.split_column),
        min_length=typed.min_length,
        min_support=typed.min_support,
        collapse=typed.collapse,
        test_days=typed.test_days,
        test_fraction=typed.test_fraction,
    )


def read_options(typed: ReadArguments) -> ClickOptions:
    """The same for a command that neither leaves sessions out nor splits them."""
    return ClickOptions(**_reading(typed))


def _reading(typed: ReadArguments, split: str | None = None) -> dict[str, Any]:
    events = tuple(
        event.strip() for text in typed.events or [] for event in text.split(",") if event.strip()
    )
    event = EVENT_COLUMN if typed.event_column is None and events else typed.event_column
    from_users = typed.session_column == WITHOUT
    return {
        "path": typed.clicks,
        "columns": Columns(
            session=None if from_users else typed.session_column,
            user=typed.user_column if from_users else None,
            item=typed.item_column,
            time=typed.time_column,
            event=event,
            split=split,
        ),
        "events": events,
        "delimiter": typed.delimiter,
        "idle_gap_seconds": typed.idle_gap,
        "drop_duplicates": typed.drop_duplicates,
    }
