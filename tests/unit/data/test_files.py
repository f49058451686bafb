"""Formats of click files give the same log; folders, partitions and patterns give their files."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.click_options import ClickOptions
from data.clicks import ClickLog, read_clicks
from data.sources.click_paths import find_files
from recsys.errors import BadInput

ROWS = [("s1", "00123", 1411434505), ("s1", "ä", 1411434506), ("s2", "00123", 1411434507)]
NAMES = ("session_id", "item_id", "timestamp")
CSV = "".join(",".join(map(str, row)) + "\n" for row in (NAMES, *ROWS))
LINES = "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)
# the example of https://github.com/otto-de/recsys-dataset, shortened
OTTO = """\
{"session": 42, "events": [
 {"aid": 0, "ts": 1661200010000, "type": "clicks"},
 {"aid": 1, "ts": 1661200020000, "type": "clicks"},
 {"aid": 2, "ts": 1661200030000, "type": "carts"}]}
{"session": 43, "events": []}
{"session": 44, "events": [{"aid": 1, "ts": 1661200040000, "type": "orders"}]}
""".replace("\n ", " ")
NAMED_OTTO = OTTO
for old, new in (("session", "session_id"), ("aid", "item_id"), ("ts", "timestamp")):
    NAMED_OTTO = NAMED_OTTO.replace(f'"{old}"', f'"{new}"')


def zstd(text: bytes) -> bytes:
    return bytes(pa.compress(text, codec="zstd", asbytes=True))


def log_of_text(path: Path, content: bytes) -> ClickLog:
    path.write_bytes(content)
    return read_clicks(ClickOptions(path))


def refused(path: Path, content: bytes | None = None, **options: str) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_clicks(ClickOptions(path, **options))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda: CSV.encode()),
        ("a.csv.gz", lambda: gzip.compress(CSV.encode())),
        ("a.csv.zst", lambda: zstd(CSV.encode())),
        ("a.tsv.gz", lambda: gzip.compress(CSV.replace(",", "\t").encode())),
        ("a.jsonl", lambda: LINES.encode()),
        ("a.ndjson", lambda: LINES.replace("\n", "\n\n").encode()),
        ("a.jsonl.gz", lambda: gzip.compress(LINES.encode())),
        ("a.jsonl.zst", lambda: zstd(LINES.encode())),
        ("a.txt", lambda: CSV.encode()),
        ("a.json.gz", lambda: gzip.compress(LINES.encode())),
    ],
)
def test_formats_give_the_same_log(tmp_path: Path, name: str, write: Callable[[], bytes]) -> None:
    log = log_of_text(tmp_path / name, write())

    assert log.group_ids == ("s1", "s2")
    assert log.item_ids == ("00123", "ä")
    assert log.item.tolist() == [0, 1, 0]
    assert log.time_ms.tolist() == [1000 * seconds for _, _, seconds in ROWS]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "UTF8"])
@pytest.mark.parametrize("text", [CSV, LINES.replace("\\u00e4", "ä")])
def test_an_encoding_gives_the_same_log(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / ("a.csv.gz" if text == CSV else "a.jsonl")
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if text == CSV else content)

    log = read_clicks(ClickOptions(path, encoding=encoding))

    assert (log.item_ids, log.item.tolist()) == (("00123", "ä"), [0, 1, 0])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_another_encoding_than_the_option_says_is_named(tmp_path: Path, encoding: str) -> None:
    assert "give --encoding" in refused(tmp_path / "a.csv", CSV.encode(encoding))


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--encoding must be one that Python knows, got 'latin9x'"):
        ClickOptions(tmp_path / "a.csv", encoding="latin9x")


def test_gz_files_that_were_appended_to_are_read_to_their_end(tmp_path: Path) -> None:
    head, tail = CSV.encode()[:60], CSV.encode()[60:]

    log = log_of_text(tmp_path / "a.csv.gz", gzip.compress(head) + gzip.compress(tail))

    assert len(log) == len(ROWS)


def test_sessions_with_events_become_one_row_for_each_event(tmp_path: Path) -> None:
    path = tmp_path / "otto.jsonl"
    path.write_text(OTTO)
    columns = {"session_column": "session", "item_column": "aid", "time_column": "ts"}

    log = read_clicks(ClickOptions(path, event_column="type", **columns))  # type: ignore[arg-type]

    assert log.group_ids == ("42", "44")
    assert log.group.tolist() == [0, 0, 0, 1]
    assert log.item_ids == ("0", "1", "2")
    assert log.item.tolist() == [0, 1, 2, 1]
    assert log.time_ms.tolist() == [1661200000000 + 10_000 * n for n in (1, 2, 3, 4)]
    carts = ClickOptions(path, event_column="type", events=("carts",), **columns)  # type: ignore[arg-type]
    assert read_clicks(carts).item_ids == ("2",)


def test_a_column_may_begin_after_the_first_events(tmp_path: Path) -> None:
    event = '{"session_id": "s", "item_id": "i", "timestamp": 1}'
    typed = event.replace("}", ', "event_type": "buy"}')
    nested = f'{{"session_id": "s", "events": [{event}, {typed}]}}'
    (tmp_path / "late.jsonl").write_text("\n".join([event] * 150 + [typed] * 2))
    (tmp_path / "nested.jsonl").write_text(nested)

    for name, count in (("late", 2), ("nested", 1)):
        log = read_clicks(ClickOptions(tmp_path / f"{name}.jsonl", events=("buy",)))
        assert len(log) == count


def test_rows_of_json_lines_are_counted_over_blocks(tmp_path: Path) -> None:
    """Twenty thousand lines of 1 kB are more than two blocks of 8 MB."""
    line = json.dumps({"pad": "x" * 1000, "session_id": "s", "item_id": "i", "timestamp": 1})
    bad = line.replace('"i"', '""')

    message = refused(tmp_path / "a.jsonl", "\n".join([line] * 20_000 + [bad]).encode())

    assert "row 20,001, item_id: '' is not an id" in message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"session_id": "s"\n', "cannot be read as JSON lines"),
        ("3\n", "line 1 is not a JSON object"),
        ("[1, 2]\n", "it is one JSON value, and not one object a line"),
        ('{\n "session_id": "s1"}\n', "it is one JSON value, and not one object a line"),
        (LINES.replace('"00123"', '["00123"]').replace("item_id", "item"), "Did you mean 'item'?"),
        ('{"session": 1, "events": []}\n', "no line has an event"),
        (
            LINES + LINES.replace('"s1"', "1"),
            "After row 0: JSON parse error: Column(/session_id) changed from string to number",
        ),
        (LINES + '{"session_id": "s1", "item_id": "a"}\n', "row 4, timestamp: None is not a time"),
        (LINES + '{"session_id": "s1", "timestamp": 1411434507}\n', "row 4, item_id: '' is not"),
        (NAMED_OTTO + '{"session_id": 45, "event": []}\n', "'events' is missing in line 4"),
        (LINES.replace('"00123"', "1.5"), "item_id is double; ids must be texts or whole numbers"),
        (LINES.replace("item_id", "item"), "no column 'item_id'. Did you mean 'item'?"),
    ],
)
def test_json_lines_that_cannot_be_used_are_named(tmp_path: Path, lines: str, message: str) -> None:
    assert message in refused(tmp_path / "a.jsonl", lines.encode())


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.csv.zst"])
def test_a_truncated_compressed_file_is_named(tmp_path: Path, name: str) -> None:
    whole = (CSV if "csv" in name else LINES) * 2000
    content = gzip.compress(whole.encode()) if name.endswith("gz") else zstd(whole.encode())

    assert f"{name} cannot be read" in refused(tmp_path / name, content[: len(content) // 2])


def test_a_file_that_is_not_compressed_is_named(tmp_path: Path) -> None:
    assert "a.csv.gz cannot be read as text" in refused(tmp_path / "a.csv.gz", CSV.encode())


def test_hive_partitions_are_columns(tmp_path: Path) -> None:
    """A day, a type of event, and a file of the same name in each."""
    for day, kind, row in (("02", "buy", ROWS[2]), ("01", "view", ROWS[0]), ("01", "buy", ROWS[1])):
        folder = tmp_path / "clicks" / f"date=2026-11-{day}" / f"event_type={kind}"
        folder.mkdir(parents=True)
        pq.write_table(
            pa.table({name: [value] for name, value in zip(NAMES, row, strict=True)}),
            folder / "part-0.parquet",
        )
    (tmp_path / "clicks" / "notes").mkdir()
    (tmp_path / "clicks" / "notes" / "old.csv").write_text("not,clicks\n")

    log = read_clicks(ClickOptions(tmp_path / "clicks"))
    views = read_clicks(ClickOptions(tmp_path / "clicks", events=("view",)))
    by_day = read_clicks(ClickOptions(tmp_path / "clicks", time_column="date"))

    assert log.event is not None
    assert log.item_ids == ("ä", "00123")  # buy comes before view
    assert (views.group_ids, views.item_ids) == (("s1",), ("00123",))
    assert days_of(by_day) == [1, 1, 2]
    names = [file.name for file in find_files(tmp_path / "clicks")]
    assert names[0] == "date=2026-11-01/event_type=buy/part-0.parquet"


def days_of(log: ClickLog) -> list[int]:
    """Return the day in November 2026 of each click."""
    first = 1793491200_000  # 2026-11-01
    return [(time - first) // 86_400_000 + 1 for time in log.time_ms.tolist()]


def test_a_pattern_gives_its_files_by_name(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        (tmp_path / f"2026-11-0{day}.csv").write_text(CSV)
        (tmp_path / f"2026-11-0{day}.txt").write_text("no clicks")
    (tmp_path / "2026-12-01.csv").write_text(CSV)

    names = [file.name for file in find_files(tmp_path / "2026-11-*")]

    assert names == ["2026-11-01.csv", "2026-11-02.csv", "2026-11-03.csv"]
    assert [file.name for file in find_files(tmp_path)] == [*names, "2026-12-01.csv"]
    assert len(find_files(tmp_path / "2026-11-*.txt")) == 3
    assert "2027-* matches no file that ends in .csv" in refused(tmp_path / "2027-*")
    assert "Invalid pattern" in refused(tmp_path / "a**.csv")


def test_a_pattern_passes_over_hidden_folders(tmp_path: Path) -> None:
    """Editors and our own runs keep copies there."""
    for folder in ("shown", ".hidden", "shown/.writing"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(CSV)

    names = [file.name for file in find_files(tmp_path / "**" / "*.csv")]

    assert names == ["shown/a.csv"]


def test_a_file_whose_name_has_signs_of_a_pattern_is_read(tmp_path: Path) -> None:
    (tmp_path / "clicks[1].csv").write_text(CSV)

    assert len(read_clicks(ClickOptions(tmp_path / "clicks[1].csv"))) == len(ROWS)


def test_fields_of_objects_in_json_lines_are_columns(tmp_path: Path) -> None:
    """The first line is of another event, and has no product."""
    path = tmp_path / "log.jsonl"
    lines = [
        {"event": "login", "at": 5, "user": {"id": "u1", "ip": None}},
        {"event": "view", "at": 10, "user": {"id": "u1"}, "product": {"sku": {"code": "a"}}},
        {"event": "view", "at": 20, "user": {"id": "u2"}, "product": {"sku": {"code": "b"}}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    log = read_clicks(
        ClickOptions(
            path,
            session_column="user.id",
            item_column="product.sku.code",
            time_column="at",
            event_column="event",
            events=("view",),
        )
    )

    assert (log.group_ids, log.item_ids) == (("u1", "u2"), ("a", "b"))


@pytest.mark.parametrize(
    ("text", "time_format", "seconds"),
    [
        ("01.09.2014 10:30:00", "%d.%m.%Y %H:%M:%S", 1_409_567_400),
        ("20140901", "%Y%m%d", 1_409_529_600),
    ],
)
def test_times_of_another_form(tmp_path: Path, text: str, time_format: str, seconds: int) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"session_id,item_id,timestamp\ns,a,{text}\n")

    log = read_clicks(ClickOptions(path, time_format=time_format))

    assert log.time_ms.tolist() == [seconds * 1000]
    with pytest.raises(BadInput, match="--time-format"):
        read_clicks(ClickOptions(path))


def test_a_file_of_utf_16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("session_id,item_id,timestamp\ns,a,1\n", encoding="utf-16")

    with pytest.raises(BadInput, match=r"--encoding \(utf-16\)"):
        read_clicks(ClickOptions(path))
