"""Entries of the click history."""

from hypothesis import given
from hypothesis import strategies as st

from service.store.session_store import Click

PARTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(
    PARTS | st.sampled_from(["[", "[1]", "\x1f", "a\x1fb"]),
    st.none() | PARTS,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_click_is_read_as_it_was_written(
    item_id: str, event_id: str | None, timestamp: float | None
) -> None:
    click = Click(item_id, event_id, timestamp)

    assert Click.from_entry(click.to_entry().encode()) == click
    assert Click.item_id_of(click.to_entry().encode()) == item_id


def test_clicks_written_as_json_are_read_too() -> None:
    assert Click.from_entry(b'["a",null,"e1"]') == Click("a", "e1")
