"""Duplicate rows are counted and reported, and removed only on request."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import duplicates
from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.duplicates import Duplicates, find_duplicates, without_duplicates
from recsys.errors import BadInput
from tests.support.training.builders import log_of
from tests.support.training.command_line import GOOD, run

SMALL = ("--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8", "--set", "batch=8")


def test_only_the_same_item_at_the_same_time_is_a_duplicate() -> None:
    log = log_of(
        [
            ("s1", "a", 10),
            ("s1", "a", 11),  # again, a second later
            ("s2", "a", 10),  # another session
            ("s1", "b", 10),  # another item
            ("s1", "a", 10),
            ("s2", "a", 10),
            ("s1", "a", 10),
        ]
    )

    repeats, found = find_duplicates(log)

    assert repeats.tolist() == [False] * 4 + [True] * 3
    assert found == Duplicates(rows=3, clicks=7)
    assert found.warning is not None
    assert found.warning.startswith("3 of 7 clicks (42.9%) are exact duplicates")
    assert "--drop-duplicates" in found.warning
    kept, dropped = without_duplicates(log, repeats, found)
    assert (len(kept), kept.time_ms.tolist()) == (4, [10_000, 11_000, 10_000, 10_000])
    assert dropped.warning is not None
    assert "were removed" in dropped.warning
    assert find_duplicates(kept)[1].warning is None


def test_rows_that_hash_alike_are_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MULTIPLIER", 0)  # only times count: all rows are alike
    log = log_of([("s1", "a", 1), ("s2", "b", 1), ("s1", "b", 1), ("s1", "a", 1), ("s2", "a", 1)])

    assert find_duplicates(log)[0].tolist() == [False, False, False, True, False]


def test_coarse_times_are_reported() -> None:
    days = [("s1", item, 0) for item in "abab"] + [("s2", item, 1) for item in "cdc"]
    seconds = [("s1", item, at) for at, item in enumerate("abab")] * 2

    assert find_duplicates(log_of(days))[1] == Duplicates(3, 7, coarse_times=True)
    assert find_duplicates(log_of(seconds))[1] == Duplicates(4, 8)
    single = [(f"s{at}", "a", at) for at in range(9)] * 2  # sessions of one click, all twice
    assert find_duplicates(log_of(single))[1] == Duplicates(9, 18)
    said = Duplicates(3, 7, coarse_times=True).warning
    assert said is not None
    assert "may also be real repeats" in said


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_event_tells_a_view_from_a_cart_where_files_have_it(
    tmp_path: Path, ending: str
) -> None:
    rows = [("s1", "a", 10, "view"), ("s1", "a", 10, "cart"), ("s1", "a", 10, None)]
    rows += [("s1", "b", 11, "view")]
    table = pd.DataFrame(rows * 2, columns=["session_id", "item_id", "timestamp", "kind"])
    path = tmp_path / f"clicks.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path, index=False)

    _, found = find_duplicates(read_clicks(ClickOptions(path, event_column="kind")))
    assert found == Duplicates(4, 8, by_event=True)
    assert find_duplicates(read_clicks(ClickOptions(path)))[1] == Duplicates(6, 8)
    named = tmp_path / f"default.{ending}"
    table = table.rename(columns={"kind": "event_type"})
    table.to_csv(named, index=False) if ending == "csv" else table.to_parquet(named, index=False)
    assert find_duplicates(read_clicks(ClickOptions(named)))[1] == Duplicates(4, 8, by_event=True)


def test_events_of_only_some_files_are_not_compared_and_a_warning_says_so(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(
        "session_id,item_id,timestamp,event_type\ns1,a,10,view\ns1,a,10,cart\n"
    )
    (tmp_path / "2.csv").write_text("session_id,item_id,timestamp\ns1,b,11\n")

    _, found = find_duplicates(read_clicks(ClickOptions(tmp_path)))

    assert found == Duplicates(1, 3, event_in_some=True)
    assert found.warning is not None
    assert "Event types are not compared: only some files have 'event_type'." in found.warning


def test_an_event_column_that_was_typed_must_be_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("session_id,item_id,timestamp,kind\ns1,a,10,view\n")
    given = ("--clicks", str(path), "--out", str(tmp_path / "out"), "--event-column", "knid")

    code, _, said = run(capsys, "train", *given)

    assert code == 2
    assert "no column 'knid'. Did you mean 'kind'?" in said


def test_an_event_column_that_is_not_text_is_ignored(tmp_path: Path) -> None:
    table = pd.DataFrame({"session_id": ["s"], "item_id": ["a"], "timestamp": [1]})
    table["event_type"] = [[1, 2]]
    table.to_parquet(tmp_path / "clicks.parquet", index=False)

    assert read_clicks(ClickOptions(tmp_path / "clicks.parquet")).event is None
    with pytest.raises(BadInput, match="event_type is list<"):
        read_clicks(ClickOptions(tmp_path / "clicks.parquet", event_column="event_type"))


def test_many_clicks_are_compared_by_whole_columns() -> None:
    """Half a million rows as one call: every one of the second half repeats the first."""
    rng = np.random.default_rng(1)
    count = 250_000
    half = log_of([("s1", "a", 1)])
    group = rng.integers(0, 40_000, count).astype(np.int32)
    item = rng.integers(0, 50_000, count).astype(np.int32)
    times = np.arange(count, dtype=np.int64)
    log = type(half)(
        group=np.tile(group, 2),
        item=np.tile(item, 2),
        time_ms=np.tile(times, 2),
        group_ids=tuple(map(str, range(40_000))),
        item_ids=tuple(map(str, range(50_000))),
    )

    repeats, found = find_duplicates(log)

    assert (found.rows, found.clicks, found.coarse_times) == (count, 2 * count, False)
    assert repeats[count:].all()


def test_a_file_concatenated_with_itself_is_reported_and_corrected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    once.write_text(GOOD)
    twice.write_text(GOOD + GOOD.partition("\n")[2])

    def trained(clicks: Path, name: str, *options: str) -> tuple[str, str, dict[str, object]]:
        out = tmp_path / name
        code, _, said = run(
            capsys, "train", "--clicks", str(clicks), "--out", str(out), *SMALL, *options
        )
        assert code == 0, said
        manifest = json.loads((out / "manifest.json").read_text())
        return said, (out / "report.html").read_text(), manifest["metrics"]["model"]

    said, page, clean = trained(once, "clean")
    assert "duplicates" not in said + page
    said, page, _ = trained(twice, "doubled")
    assert "90 of 180 clicks (50.0%) are exact duplicates" in said
    assert "90 of 180 clicks (50.0%) are exact duplicates" in page
    said, page, mended = trained(twice, "mended", "--drop-duplicates")
    assert "They were removed" in said
    assert "They were removed" in page
    assert mended == clean
    bundle, report = str(tmp_path / "clean"), tmp_path / "page.html"
    asked = ("evaluate", "--bundle", bundle, "--clicks", str(twice), "--report", str(report))
    assert "(50.0%) are exact duplicates" in run(capsys, *asked)[1]
    assert "(50.0%) are exact duplicates" in report.read_text()
    _, out, said = run(capsys, *asked[:-2], "--json")
    assert "model" in json.loads(out)
    assert "(50.0%) are exact duplicates" in said
