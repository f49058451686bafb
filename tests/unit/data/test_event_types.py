"""Event types of a log: which of them count, and their numbers."""

from pathlib import Path

import pytest

from data.click_options import ClickOptions
from data.prepare import read_sessions
from data.sessions import Sessions, coded, typed
from recsys.errors import BadInput
from recsys.model.event_types import EventTypes


def read(folder: Path, texts: list[str], column: str | None = "kind", **more: object) -> Sessions:
    """Return one session of clicks on item a and, from the third on, item b."""
    rows = [f"s,{'ab'[at > 1]},{at},{event}\n" for at, event in enumerate(texts)]
    (folder / "clicks.csv").write_text("session_id,item_id,timestamp,kind\n" + "".join(rows))
    options = ClickOptions(folder / "clicks.csv", event_column=column, **more)  # type: ignore[arg-type]
    return read_sessions(options).sessions


def numbers(sessions: Sessions) -> list[int]:
    assert sessions.events is not None
    return [int(number) for number in sessions.events]


def test_types_are_numbered_in_alphabetical_order_and_a_missing_one_is_0(tmp_path: Path) -> None:
    sessions = read(tmp_path, ["view", "cart", "", "view"])

    assert sessions.event_types == ("cart", "view")
    assert numbers(sessions) == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("texts", "options"),
    [(["v", "v"], {}), (["v", "b"], {"column": None}), (["v", "b", "v"], {"events": ("v",)})],
    ids=["one type", "without the option", "one is kept"],
)
def test_types_count_only_where_there_are_several_and_an_option_names_them(
    tmp_path: Path, texts: list[str], options: dict[str, object]
) -> None:
    sessions = read(tmp_path, texts, **options)  # type: ignore[arg-type]

    assert (sessions.events, sessions.event_types) == (None, ())


def test_two_clicks_of_different_types_on_one_item_are_no_repeat(tmp_path: Path) -> None:
    sessions = read(tmp_path, ["view", "cart", "cart", "cart"], collapse=True)

    assert sessions.items.tolist() == [0, 0, 1]
    assert numbers(sessions) == [2, 1, 1]


def test_too_many_or_too_long_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"column 'kind' has 33 types, 32 at most: k00, .*--events"):
        read(tmp_path, [f"k{n:02}" for n in range(33)])
    with pytest.raises(BadInput, match="has 65 characters; a type has at most 64"):
        read(tmp_path, ["view", "x" * 65])


def test_a_model_reads_its_own_numbers(tmp_path: Path) -> None:
    """The log has cart 1 and view 2; the model has buy 1 and view 2, which is its default."""
    sessions = read(tmp_path, ["view", "cart", "", "view"])
    types = EventTypes(("buy", "view"), "view")

    assert numbers(typed(sessions, types)) == [2, 0, 2, 2]
    assert coded(sessions, types).items.tolist() == [0 * 3 + 2, 0 * 3 + 0, 1 * 3 + 2, 1 * 3 + 2]
    assert coded(sessions, EventTypes()).items.tolist() == [0, 0, 1, 1]
    without = read(tmp_path, ["view", "cart"], column=None)
    assert numbers(typed(without, types)) == [2, 2]
