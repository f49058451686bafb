"""Bad rows of click files: which rows are left out, how they are listed, and how many may be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.bad_rows import BrokenRows
from data.click_options import ClickOptions
from data.clicks import ClickLog, read_clicks
from recsys.errors import BadInput

HEADER = b"session_id,item_id,timestamp\n"
ROWS = [  # (line, what is wrong), numbered from 1; the empty line does not count
    (b"s1,a,10\n", ""),
    (b"s1,b\n", "the line has 2 columns, not 3."),
    (b"s1,b,20\n\n", ""),
    (b"s1,,30\n", "item_id: '' is not an id."),
    (b"s2,\xfc,40\n", "item_id: b'\\xfc' is not UTF-8."),
    (b"s2,c,50\n", ""),
    (b"s2,,soon\n", "timestamp: 'soon' is not a time."),
    (b"s2,d,60\n", ""),
    (b"s2,d,60,1\n", "the line has 4 columns, not 3."),
]
BAD = [(row, why) for row, (_, why) in enumerate(ROWS, 1) if why]


def read(tmp_path: Path, content: bytes, name: str = "clicks.csv", **options: object) -> ClickLog:
    path = tmp_path / name
    path.write_bytes(content)
    listed = tmp_path / "skipped.csv"
    return read_clicks(ClickOptions(path, skipped_rows=listed, **options))  # type: ignore[arg-type]


def listed(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bad_rows_are_left_out_and_listed_by_their_numbers(tmp_path: Path) -> None:
    content = HEADER + b"".join(line for line, _ in ROWS)

    log = read(tmp_path, content, skip_bad_rows=len(BAD))
    found = listed(tmp_path)

    assert log.item_ids == ("a", "b", "c", "d")
    assert log.time_ms.tolist() == [10_000, 20_000, 50_000, 60_000]
    assert [int(row["row"]) for row in found] == [row for row, _ in BAD]
    assert all(row["reason"].startswith(why) for row, (_, why) in zip(found, BAD, strict=True))
    assert found[0]["text"] == "s1,b"
    assert json.loads(found[1]["text"]) == {"session_id": "s1", "item_id": "", "timestamp": "30"}
    assert log.skipped.warning == (
        f"5 bad rows were left out (--skip-bad-rows), listed in {tmp_path / 'skipped.csv'}."
    )


def test_more_bad_rows_than_allowed_are_an_error_that_names_the_first(tmp_path: Path) -> None:
    content = HEADER + b"".join(line for line, _ in ROWS)

    with pytest.raises(BadInput) as refused:
        read(tmp_path, content, skip_bad_rows=3)

    assert "More rows are bad than --skip-bad-rows 3 allows" in str(refused.value)
    assert "row 2, the line has 2 columns, not 3." in str(refused.value).splitlines()[1]
    assert not (tmp_path / "skipped.csv").exists()


def test_few_bad_rows_are_told_of_the_option(tmp_path: Path) -> None:
    content = HEADER + b"s1,a,10\n" * 99 + b"s1,,10\n"

    with pytest.raises(BadInput, match="1 of 100 are bad; --skip-bad-rows 1 omits them"):
        read(tmp_path, content)


def test_a_quotation_mark_that_is_not_closed_swallows_no_lines_silently(tmp_path: Path) -> None:
    content = HEADER + b's1,"a,10\ns1,b,20\ns1,c,30"\ns1,d,40\n'

    with pytest.raises(BadInput, match="It spans 3 lines: close its quotation mark"):
        read(tmp_path, content, skip_bad_rows=9)


def test_broken_lines_of_json_are_left_out(tmp_path: Path) -> None:
    good = [{"session_id": "s", "item_id": item, "timestamp": 10} for item in "abc"]
    lines = ['{"session_id": "s"', *map(json.dumps, good[:2]), "[1]", json.dumps(good[2]), "{"]

    log = read(tmp_path, "\n".join(lines).encode(), "clicks.jsonl", skip_bad_rows=3)

    assert log.item_ids == ("a", "b", "c")
    assert [(int(row["row"]), row["text"]) for row in listed(tmp_path)] == [
        (1, lines[0]), (4, lines[3]), (6, lines[5]),
    ]  # fmt: skip


def test_rows_of_events_that_are_not_chosen_may_lack_an_item(tmp_path: Path) -> None:
    rows = b"session_id,item_id,timestamp,event_type\ns,a,1,view\ns,,2,login\ns,b,x,login\n"

    assert read(tmp_path, rows, events=("view",)).item_ids == ("a",)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_rows_after_broken_ones_keep_their_numbers(is_broken: list[bool]) -> None:
    broken = BrokenRows("file")
    for number in np.flatnonzero(is_broken).tolist():
        broken.add(number + 1, "broken.", "")

    good = [number for number, bad in enumerate(is_broken, 1) if not bad]

    assert broken.numbers(0, len(good)).tolist() == good
    assert (
        broken.numbers(len(good) // 2, len(good) - len(good) // 2).tolist()
        == (good[len(good) // 2 :])
    )
