"""Reading of click files: accepted values, refused values and their messages."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.click_options import ClickOptions
from data.clicks import ClickLog, read_clicks
from recsys.errors import BadInput

HEADER = "session_id,item_id,timestamp\n"
GOOD = HEADER + "s1,00123,1411434505\ns1,7,1411434506\ns2,00123,1411434507\n"


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
    "written", ["1411434505", "1411434505000", "2014-09-23T01:08:25Z", "2014-09-23 03:08:25+02:00"]
)
def test_seconds_milliseconds_and_iso_mean_the_same(tmp_path: Path, written: str) -> None:
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


def test_microseconds_are_refused_instead_of_misread(tmp_path: Path) -> None:
    assert "is not a time" in refused(tmp_path, HEADER + "s1,a,1411434505000000\n")


def test_seconds_and_milliseconds_in_one_column_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, HEADER + "s1,a,1411434505\ns1,b,1411434506000\n")

    assert "row 2, timestamp: '1411434506000' is in milliseconds, others are in seconds" in message


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
