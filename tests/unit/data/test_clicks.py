"""Reading of click files: accepted and refused values, their messages, and duplicate rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.bad_rows import NO_SKIPPED
from data.click_options import ClickOptions
from data.clicks import ClickLog, Duplicates, find_duplicates, read_clicks, without_duplicates
from data.prepare import are_dates, warnings_of
from recsys.errors import BadInput
from tests.support.training.builders import log_of
from tests.support.training.command_line import GOOD as MANY_CLICKS
from tests.support.training.command_line import run

HEADER = "session_id,item_id,timestamp\n"
GOOD = HEADER + "s1,00123,1411434505\ns1,7,1411434506\ns2,00123,1411434507\n"
SMALL = ("--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8", "--set", "batch=8")


def read(tmp_path: Path, text: str, name: str = "clicks.csv", **options: object) -> ClickLog:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_clicks(ClickOptions(path, **options))  # type: ignore[arg-type]


def refused(tmp_path: Path, text: str, name: str = "clicks.csv", **options: object) -> str:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text, name, **options)
    return str(caught.value)


def test_ids_stay_texts_and_times_become_milliseconds(tmp_path: Path) -> None:
    log = read(tmp_path, GOOD)

    assert log.item_ids == ("00123", "7")
    assert log.item.tolist() == [0, 1, 0]
    assert log.group_ids == ("s1", "s2")
    assert log.time_ms.tolist() == [1411434505000, 1411434506000, 1411434507000]


@pytest.mark.parametrize(
    "written",
    [
        *("1411434505", "1411434505000", "1411434505000000", "1411434505000000000"),
        *("2014-09-23T01:08:25Z", "2014-09-23 03:08:25+02:00"),
        *("2014-09-23 01:08:25 UTC", "2014-09-23 01:08:25.000000 UTC"),  # BigQuery
    ],
)
def test_numbers_of_every_unit_and_iso_mean_the_same(tmp_path: Path, written: str) -> None:
    log = read(tmp_path, HEADER + f"s1,a,{written}\n")

    assert log.time_ms.tolist() == [1411434505000]


def test_milliseconds_are_not_rounded_away(tmp_path: Path) -> None:
    log = read(tmp_path, HEADER + "s1,a,1411434505.250\ns1,b,2014-09-23T01:08:25.250Z\n")

    assert log.time_ms.tolist() == [1411434505250, 1411434505250]


def test_tsv_is_split_at_tabs(tmp_path: Path) -> None:
    assert len(read(tmp_path, GOOD.replace(",", "\t"), "clicks.tsv")) == 3


def test_the_delimiter_option_is_used(tmp_path: Path) -> None:
    assert len(read(tmp_path, GOOD.replace(",", ";"), delimiter=";")) == 3


def test_whole_numbers_and_typed_times_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    times = pa.array([1_411_434_505_000_000], pa.timestamp("us"))
    pq.write_table(pa.table({"session_id": [4], "item_id": [17], "timestamp": times}), path)

    log = read_clicks(ClickOptions(path))

    assert (log.group_ids, log.item_ids) == (("4",), ("17",))
    assert log.time_ms.tolist() == [1411434505000]


def test_a_folder_is_read_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(HEADER + "s1,late,20\n")
    (tmp_path / "a.tsv").write_text(HEADER.replace(",", "\t") + "s1\tearly\t10\n")
    (tmp_path / "notes.txt").write_text("not clicks")

    assert read_clicks(ClickOptions(tmp_path)).item_ids == ("early", "late")


def test_only_chosen_events_are_kept(tmp_path: Path) -> None:
    text = "session_id,item_id,timestamp,event_type\ns,a,1,pv\ns,b,2,buy\ns,c,3,pv\n"

    log = read(tmp_path, text, events=("pv",))

    assert log.item_ids == ("a", "c")


def test_progress_reaches_the_size_of_the_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "clicks.csv"
    path.write_text(GOOD)
    read_clicks(ClickOptions(path), lambda done, total: seen.append((done, total)))

    assert seen[-1] == (len(GOOD), len(GOOD))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.csv does not exist"):
        read_clicks(ClickOptions(tmp_path / "nowhere.csv"))


@pytest.mark.parametrize("text", ["", HEADER, "\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    assert "clicks.csv" in refused(tmp_path, text)


def test_a_wrong_delimiter_is_recognised(tmp_path: Path) -> None:
    message = refused(tmp_path, GOOD.replace(",", ";"))

    assert "separated by semicolon, not by comma" in message
    assert "--delimiter ';'" in message


def test_a_missing_column_brings_the_nearest_name(tmp_path: Path) -> None:
    message = refused(tmp_path, GOOD.replace("item_id", "itemid"))

    assert "no column 'item_id'. Did you mean 'itemid'?" in message
    assert message.endswith("Set --item-column to one of them.")


def test_every_bad_value_is_reported_with_row_and_value(tmp_path: Path) -> None:
    text = HEADER + "s1,a,1\n,a,2\ns1,NaN,3\ns1,b,yesterday\n" + f"s1,{'x' * 129},5\n"

    message = refused(tmp_path, text)

    assert "row 2, session_id: '' is not an id" in message
    assert "row 3, item_id: 'NaN' is not an id" in message
    assert "row 4, timestamp: 'yesterday' is not a time" in message
    assert "row 5, item_id: 'xxxxxxxxxxxxxxxxxxxx…' has 129 characters" in message


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "session_id,item_id,item_id,timestamp\ns,a,b,1\n"

    assert "two columns are called 'item_id'" in refused(tmp_path, text)


def test_a_year_out_of_range_is_refused(tmp_path: Path) -> None:
    assert "row 2, timestamp: '9999-12-31'" in refused(
        tmp_path, HEADER + "s,a,0001-01-01\ns,b,9999-12-31\n"
    )


def test_a_time_before_the_calendar_is_refused(tmp_path: Path) -> None:
    assert "row 1, timestamp" in refused(tmp_path, HEADER + "s,a,-99999999999\n")


def test_a_number_beyond_every_unit_is_refused(tmp_path: Path) -> None:
    assert "is not a time" in refused(tmp_path, HEADER + "s1,a,1e20\n")


def test_seconds_and_milliseconds_in_one_column_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, HEADER + "s1,a,1411434505\ns1,b,1411434506000\n")

    assert "row 2, timestamp: '1411434506000' is in milliseconds, others are in seconds" in message


def test_a_log_of_users_is_told_how_to_cut_sessions(tmp_path: Path) -> None:
    message = refused(tmp_path, "user_id,item_id,timestamp\nu,a,1\n")

    assert "Set --session-column to one of them." in message
    assert "'user_id': --session-column none cuts sessions" in message
    message = refused(tmp_path, "customer,item_id,timestamp\nu,a,1\n")
    assert "--session-column none --user-column COLUMN cuts sessions" in message


def test_a_folder_with_other_files_beside_the_clicks_is_told(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,name\na,Tent\n")
    (tmp_path / "clicks.csv").write_text(GOOD)

    with pytest.raises(BadInput, match="stands for 2 files, and others of them have the columns"):
        read_clicks(ClickOptions(tmp_path))


def test_ids_that_a_program_wrote_as_fractions_are_told() -> None:
    def told(*ids: str) -> list[str]:
        times = np.array([1, 2])
        return [str(each) for each in warnings_of(Duplicates(0, 2), NO_SKIPPED, times, ids)]

    assert "The item ids end in .0, as in 7.0" in told("7.0", "12.0")[0]
    assert told("7.0", "tent") == told("1.5") == told("70") == []


def test_a_broken_line_is_quoted(tmp_path: Path) -> None:
    message = refused(tmp_path, GOOD + "s3,only two\n")

    assert "has 2 columns, not 3: 's3,only two'" in message


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    pq.write_table(pa.table({"session_id": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(BadInput, match="not a readable Parquet file"):
        read_clicks(ClickOptions(path))


def test_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    rows = b"".join(b"s%d,a,%d\n" % (n, n) for n in range(4000))
    path.write_bytes(HEADER.encode() + rows + b"s,\xe9,2\n")

    with pytest.raises(BadInput, match=r"row 4,001, item_id: b'\\xe9' is not UTF-8"):
        read_clicks(ClickOptions(path))


def test_floating_point_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    pq.write_table(pa.table({"session_id": [1.0], "item_id": ["a"], "timestamp": [1]}), path)

    with pytest.raises(BadInput, match="session_id is double; ids must be texts or whole numbers"):
        read_clicks(ClickOptions(path))


def test_texts_in_one_file_and_numbers_in_another_are_mixed_types(tmp_path: Path) -> None:
    for name, item in (("a", 7), ("b", "007")):
        table = pa.table({"session_id": ["s"], "item_id": [item], "timestamp": [1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")

    with pytest.raises(BadInput, match="item_id has mixed types"):
        read_clicks(ClickOptions(tmp_path))


def test_a_null_id_in_parquet_is_refused_with_its_row(tmp_path: Path) -> None:
    table = pa.table({"session_id": ["s", None], "item_id": ["a", "b"], "timestamp": [1, 2]})
    pq.write_table(table, tmp_path / "clicks.parquet")

    with pytest.raises(BadInput, match=r"row 2, session_id: '' is not an id"):
        read_clicks(ClickOptions(tmp_path / "clicks.parquet"))


def test_no_such_event_shows_the_events_there_are(tmp_path: Path) -> None:
    text = "session_id,item_id,timestamp,event_type\ns,a,1,pv\n"

    message = refused(tmp_path, text, events=("view",))

    assert "no click has the event view; column 'event_type' has: pv." in message


def test_an_unknown_split_label_is_refused(tmp_path: Path) -> None:
    text = "session_id,item_id,timestamp,split\ns,a,1,training\n"

    message = refused(tmp_path, text, split_column="split")

    assert "row 1, split: 'training' is none of train, valid, test" in message


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    assert "Give a file that ends in .csv, .tsv, .parquet" in refused(tmp_path, GOOD, "clicks.xlsx")


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
    monkeypatch.setattr("data.clicks.MULTIPLIER", 0)  # only times count: all rows are alike
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
    once.write_text(MANY_CLICKS)
    twice.write_text(MANY_CLICKS + MANY_CLICKS.partition("\n")[2])

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
    assert "the bundle learned from others" in said


def test_times_that_are_dates_are_recognised() -> None:
    day, noon = 86_400_000, 43_200_000

    assert are_dates(np.array([noon, noon + day, noon + 5 * day]))
    assert not are_dates(np.array([noon, noon]))  # one moment
    assert not are_dates(np.array([noon, noon + day, noon + day + 1000]))
