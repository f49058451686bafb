"""What a person typed about the click files → `ClickOptions`; refuses what contradicts itself."""

from data.columns import Columns
from recsys.cli_options import ClickArguments
from training.prepare import ClickOptions

WITHOUT = "none"  # --session-column none


def click_options(typed: ClickArguments) -> ClickOptions:
    """Raises `BadInput` with every option that cannot be used."""
    events = tuple(
        event.strip() for text in typed.events or [] for event in text.split(",") if event.strip()
    )
    from_users = typed.session_column == WITHOUT
    columns = Columns(
        session=None if from_users else typed.session_column,
        user=typed.user_column if from_users else None,
        item=typed.item_column,
        time=typed.time_column,
        event=typed.event_column if events else None,
        split=typed.split_column,
    )
    return ClickOptions(
        path=typed.clicks,
        columns=columns,
        events=events,
        delimiter=typed.delimiter,
        idle_gap_seconds=typed.idle_gap,
        min_length=typed.min_length,
        min_support=typed.min_support,
        collapse=typed.collapse,
        test_days=typed.test_days,
        test_fraction=typed.test_fraction,
    )
