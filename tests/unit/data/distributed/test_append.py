"""Appending gives the preparation of all clicks at once, where no session straddles a border."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data.click_options import ClickOptions
from data.distributed.append import Appending
from data.files import Progress
from data.prepare import Prepared, prepare
from data.prepared.folder import PreparedFolder
from data.prepared.run import in_memory, make_folder
from data.sessions import Sessions, filter_to_fixed_point, reindex
from data.split import DAY_MS
from recsys.errors import BadInput
from tests.support.training.command_line import run

HEADER = "session_id,item_id,timestamp\n"
SECONDS_OF_A_SESSION = 10  # no session begins before the one before it has ended


@contextmanager
def silent(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


@dataclass(frozen=True)
class TwoDays:
    """Old and new sessions, each a list of items, and the options of the first preparation."""

    old: Sequence[Sequence[int]]
    new: Sequence[Sequence[int]]
    min_length: int
    min_support: int
    collapse: bool
    rows_per_partition: int
    types: tuple[str, str] = ("", "")  # letters: the event types of the old and the new clicks

    def write(self, folder: Path) -> ClickOptions:
        """Write one file for each day, and return the options of the old one."""
        days = (("a", 0, self.old), ("b", len(self.old), self.new))
        for (name, first, sessions), types in zip(days, self.types, strict=True):
            events = Random(first)
            rows = [
                f"s{number},i{item},{number * SECONDS_OF_A_SESSION + at},"
                for number, items in enumerate(sessions, first)
                for at, item in enumerate(items)
            ]
            # each type at least once, then at random, and sometimes none
            letters = [*types, *events.choices(f"{types} ", k=len(rows))]
            texts = [f"{row}{letters[at].strip()}\n" for at, row in enumerate(rows)]
            (folder / f"{name}.csv").write_text(HEADER.replace("\n", ",event\n") + "".join(texts))
        return ClickOptions(
            folder / "a.csv",
            min_length=self.min_length,
            min_support=self.min_support,
            collapse=self.collapse,
            event_column="event" if any(self.types) else None,
            test_fraction=0.3,
        )


@st.composite
def two_days(draw: st.DrawFn) -> TwoDays:
    random = Random(draw(st.integers(0, 2**32)))
    days = [
        [
            [random.randrange(low, low + 6) for _ in range(random.randrange(1, 6))]
            for _ in range(random.randrange(3, 25))
        ]
        for low in (0, 3)  # the new day has items of its own
    ]
    return TwoDays(
        days[0],
        days[1],
        draw(st.integers(2, 3)),
        draw(st.sampled_from([1, 2, 4])),
        draw(st.booleans()),
        draw(st.sampled_from([5, 30, 1000])),
        draw(st.sampled_from([("", ""), ("vp", "vp"), ("vp", ""), ("cp", "v"), ("bd", "ace")])),
    )


def appended(log: TwoDays, folder: Path) -> tuple[Prepared, Prepared]:
    """Return the prepared clicks of the old day, and those with the new day behind them."""
    options = log.write(folder)
    try:
        base, _ = make_folder(folder / "old", options, in_memory(options))
        appending = Appending(base, folder / "b.csv", log.rows_per_partition, silent)
        out, _ = make_folder(
            folder / "new", appending.options, appending.write, appending.origin_of
        )
    except BadInput:
        assume(False)
    return base.open(), out.open()


def lists(sessions: Sessions) -> list[list[object]]:
    arrays = (sessions.items, sessions.time_ms, sessions.offsets, sessions.events)
    return [array.tolist() for array in arrays if array is not None]


@given(log=two_days())
def test_without_rare_items_it_is_the_preparation_of_both_days(
    log: TwoDays, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("days")
    _, got = appended(replace(log, min_support=1), folder)
    first, last = int(got.test.starts_ms[0]), int(got.test.time_ms.max())
    for name in ("a.csv", "b.csv"):
        target = folder / "both" / name
        target.parent.mkdir(exist_ok=True)
        (folder / name).rename(target)

    both = prepare(
        ClickOptions(
            folder / "both",
            min_length=log.min_length,
            collapse=log.collapse,
            event_column="event" if any(log.types) else None,
            test_days=(last + 1 - first) / DAY_MS,
        )
    )

    assert lists(got.train) == lists(both.train)
    assert lists(got.test) == lists(both.test)
    assert got.train.item_ids == both.train.item_ids
    assert got.train.event_types == both.train.event_types
    assert got.cut_off == both.cut_off


@given(log=two_days())
def test_filters_apply_to_all_old_sessions_together(
    log: TwoDays, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The old training part, filtered before, and the old test part are filtered anew."""
    old, got = appended(replace(log, types=("", "")), tmp_path_factory.mktemp("days"))
    together = Sessions(
        np.concatenate([old.train.items, old.test.items]),
        np.concatenate([old.train.time_ms, old.test.time_ms]),
        np.concatenate([old.train.offsets, old.train.offsets[-1] + old.test.offsets[1:]]),
        old.train.item_ids,
    )

    expected, _ = filter_to_fixed_point(
        together, min_length=log.min_length, min_support=log.min_support
    )

    assert lists(got.train) == lists(expected)
    assert got.train.item_ids[: len(old.train.item_ids)] == old.train.item_ids
    assert lists(reindex(got.test, got.train.item_ids)) == lists(got.test)


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Return a folder with a prepared day, and clicks of the next one."""
    log = TwoDays([[0, 1, 2]] * 12, [[2, 1, 7]] * 4, 2, 1, False, 1000)
    options = log.write(tmp_path)
    make_folder(tmp_path / "old", options, in_memory(options))
    return tmp_path


def test_days_are_appended_one_after_the_other_by_the_command(
    days: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 sessions of 3 clicks, of which 4 are tested on; then 4 more, which are tested on."""
    later = days / "c.csv"
    later.write_text(HEADER + "".join(f"t{n},i9,{900 + n}\nt{n},i1,{901 + n}\n" for n in range(4)))

    def append(base: str, clicks: str, out: str) -> tuple[int, str, str]:
        given = ["--append", str(days / base), "--clicks", str(days / clicks)]
        return run(capsys, "prepare", *given, "--out", str(days / out))

    first, second = append("old", "b.csv", "two"), append("two", "c.csv", "three")
    again = append("two", "c.csv", "three")

    assert (first[0], second[0], again[0]) == (0, 0, 0), first[2] + second[2]
    assert "Nothing has changed" in again[2]
    two, three = (PreparedFolder.at(days / name).open() for name in ("two", "three"))
    assert (len(two.train), len(two.test)) == (12, 4)
    assert (len(three.train), len(three.test)) == (16, 4)
    assert three.train.item_ids == ("i0", "i1", "i2", "i7", "i9")
    sources = [one.name for one in PreparedFolder.at(days / "three").manifest.origin.sources]
    assert sources == ["a.csv", "append-1/b.csv", "append-2/c.csv"]
    assert not (days / "three" / "work").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--min-length", "3"], "--min-length say how --clicks is read"),
        (["--workers", "1"], "--append reads new clicks in this process"),
        ([], "the first new one at 1970-01-01T00:00:00 (UTC). Give clicks that come later"),
    ],
)
def test_what_cannot_be_appended_is_refused(
    days: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, out = days / "a.csv", days / "new"
    base = ["--append", str(days / "old"), "--clicks", str(clicks), "--out", str(out)]

    code, _, error = run(capsys, "prepare", *base, *given)

    assert code == 2
    assert message in error
    assert not out.exists()


def test_types_that_only_the_new_clicks_have_are_refused(tmp_path: Path) -> None:
    log = TwoDays([[0, 1, 2]] * 12, [[2, 1, 7]] * 4, 2, 1, False, 1000, ("v", "vp"))
    options = log.write(tmp_path)
    base, _ = make_folder(tmp_path / "old", options, in_memory(options))
    appending = Appending(base, tmp_path / "b.csv", 1000, silent)

    with pytest.raises(BadInput, match=r"have the event types p, v, and those of .* at most one"):
        make_folder(tmp_path / "new", appending.options, appending.write, appending.origin_of)


def test_a_folder_that_was_split_by_a_column_is_refused(tmp_path: Path) -> None:
    rows = [f"s{n},i{n % 3},{n},{'train' if n < 8 else 'test'}\n" for n in range(12)]
    (tmp_path / "a.csv").write_text(
        HEADER.replace("\n", ",part\n") + "".join(row for one in rows for row in (one, one))
    )
    options = ClickOptions(tmp_path / "a.csv", split_column="part")
    base, _ = make_folder(tmp_path / "old", options, in_memory(options))
    appending = Appending(base, tmp_path / "a.csv", 1000, silent)

    with pytest.raises(BadInput, match="was split by a column"):
        make_folder(tmp_path / "new", appending.options, appending.write, appending.origin_of)
