"""An events folder holds each entry once, loses deleted users, and is the same when compacted."""

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.click_options import ClickOptions
from data.clicks import read_clicks as read_click_files
from data.events.compaction import READING_SECONDS, Compacted, compact
from data.events.folder import MANIFEST, EventsFolder
from data.events.reading import read_clicks, read_impressions
from data.events.writing import EventsWriter, FolderInUse, only_writer
from data.prepare import read_sessions
from recsys.errors import BadInput
from recsys.events.schemas import CLICKS, DELETIONS, IMPRESSIONS, SCHEMAS

HOUR = 3600
NOON = 1_767_268_800  # 2026-01-01 12:00 UTC


def columns(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns of rows; what a row does not name is null."""
    return {name: [row.get(name) for row in rows] for name in SCHEMAS[kind].names}


def click(
    seconds: float, user: str, item: str, sequence: int = 0, shard: int = 7
) -> dict[str, Any]:
    return {
        "entry": f"{shard:02}-{round(seconds * 1000)}-{sequence}",
        "timestamp": seconds,
        "user_id": user,
        "session_id": f"{user}-1",
        "click": 1,
        "item_id": item,
    }


def write_clicks(writer: EventsWriter, *rows: dict[str, Any]) -> int:
    return writer.write({CLICKS: columns(CLICKS, rows)}).rows[CLICKS]


def delete(writer: EventsWriter, seconds: float, user: str, shard: int = 7) -> None:
    row = {"entry": f"{shard:02}-{round(seconds * 1000)}-0", "timestamp": seconds, "user_id": user}
    writer.write({DELETIONS: columns(DELETIONS, [row])})


def items_in(folder: Path) -> list[str]:
    items: list[str] = read_clicks(folder)["item_id"].tolist()
    return items


def all_bytes(folder: Path) -> bytes:
    """Return the names and bytes of all files; Parquet pages are read, as they are compressed."""
    content = []
    for path in folder.rglob("*"):
        content.append(str(path).encode())
        if path.suffix == ".parquet":
            content.append(str(pq.read_table(path).to_pydict()).encode())
        if path.is_file():
            content.append(path.read_bytes())
    return b"\n".join(content)


@pytest.fixture
def folder(tmp_path: Path) -> EventsFolder:
    return EventsFolder.create(tmp_path / "events")


def test_clicks_are_filed_by_date_and_hour_and_read_in_the_order_of_time(
    folder: EventsFolder,
) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON + 1, "ada", "b"), click(NOON + HOUR, "ada", "d"))
    write_clicks(writer, click(NOON - 1, "bob", "a", shard=8), click(NOON + 2, "bob", "c", shard=8))
    names = sorted(path.parent.relative_to(folder.path) for path in folder.path.rglob("*.parquet"))
    assert list(map(str, names)) == [
        f"clicks/date=2026-01-01/hour={hour}" for hour in (11, 12, 12, 13)
    ]
    assert items_in(folder.path) == ["a", "b", "c", "d"]
    inside = read_clicks(folder.path, NOON, NOON + 2)
    assert inside["item_id"].tolist() == ["b"]  # from NOON on, before NOON + 2
    assert list(inside.columns) == SCHEMAS[CLICKS].names


def test_impressions_keep_the_items_as_they_were_shown(folder: EventsFolder) -> None:
    shown = {**click(NOON, "ada", ""), "list_id": "x-1", "items": ["b", "a", "ä/1"]}
    EventsWriter(folder).write({IMPRESSIONS: columns(IMPRESSIONS, [shown])})
    (row,) = read_impressions(folder.path).to_dict("records")
    assert (row["list_id"], list(row["items"])) == ("x-1", ["b", "a", "ä/1"])


entries = st.tuples(st.integers(0, 3), st.integers(0, 3 * HOUR), st.integers(0, 2))


@settings(max_examples=10, deadline=None)
@given(data=st.data(), drawn=st.sets(entries, min_size=1, max_size=12))
def test_entries_that_are_given_again_are_written_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, drawn: set[tuple[int, int, int]]
) -> None:
    """Cut the log of all shards into batches; lose files of a batch, restart, and give it again."""
    folder = EventsFolder.create(tmp_path_factory.mktemp("events") / "events")
    writer = EventsWriter(folder)
    rows = [
        click(NOON + second, "ada", f"{shard}-{second}-{sequence}", sequence, shard)
        for second, sequence, shard in sorted((s, q, shard) for shard, s, q in drawn)
    ]
    while rows:
        size = data.draw(st.integers(1, len(rows)))
        written = write_clicks(writer, *rows[:size])
        assert written == size
        if data.draw(st.booleans()):  # the process ends before it acknowledges, perhaps between two
            files = folder.files(CLICKS)
            cut = data.draw(st.booleans())
            newest = [file for file in files if file.last == max(each.last for each in files)]
            for file in newest[1:] if cut else []:
                file.path.unlink()
            writer = EventsWriter(folder)
            write_clicks(writer, *rows[:size])
        if data.draw(st.booleans()):
            compact(folder, NOON + data.draw(st.integers(0, 9)) * HOUR)
        rows = rows[size:]
    found = items_in(folder.path)
    assert len(found) == len(drawn)
    assert set(found) == {f"{shard}-{second}-{sequence}" for shard, second, sequence in drawn}


def test_a_batch_that_could_not_be_written_is_written_once_when_it_is_given_again(
    folder: EventsFolder,
) -> None:
    writer = EventsWriter(folder)
    rows = click(NOON, "ada", "a"), click(NOON + HOUR, "ada", "b")
    blocked = folder.hour_folder(CLICKS, NOON // HOUR + 1)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("no folder")
    with pytest.raises(BadInput, match="cannot be written"):
        write_clicks(writer, *rows)
    blocked.unlink()
    assert write_clicks(writer, *rows) == 1  # the second hour; the first one is there
    assert items_in(folder.path) == ["a", "b"]


def test_a_folder_that_is_moved_away_gets_no_more_rows(
    folder: EventsFolder, tmp_path: Path
) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON, "ada", "a"))
    moved = folder.path.rename(tmp_path / "moved")
    with pytest.raises(BadInput, match="has no recsys-events"):
        write_clicks(writer, click(NOON + 1, "ada", "b"))
    EventsFolder.create(folder.path)
    with pytest.raises(BadInput, match="is another folder now"):
        write_clicks(writer, click(NOON + 1, "ada", "b"))
    assert write_clicks(EventsWriter(EventsFolder.open(moved)), click(NOON + 1, "ada", "b")) == 1
    assert items_in(moved) == ["a", "b"]


def test_compaction_merges_complete_hours_and_changes_no_row(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    for second in range(4):
        write_clicks(writer, click(NOON + second, "ada", f"i{second}"))
    before = read_clicks(folder.path)
    assert compact(folder, NOON + HOUR) == Compacted()  # late entries may come
    assert compact(folder, NOON + 2 * HOUR) == Compacted(merged_files=4)
    assert len(folder.files(CLICKS)) == 1
    assert read_clicks(folder.path).equals(before)
    replaced = folder.files_of_hour(CLICKS, NOON // HOUR)
    assert len(replaced) == 1 + 4  # a reader may have listed them
    now = replaced[0].path.stat().st_mtime + READING_SECONDS
    compact(folder, now)
    assert len(folder.files_of_hour(CLICKS, NOON // HOUR)) == 1
    write_clicks(EventsWriter(folder), click(NOON + 4, "ada", "late"))
    assert compact(folder, now) == Compacted(merged_files=2)
    assert items_in(folder.path) == ["i0", "i1", "i2", "i3", "late"]


def test_a_deleted_user_is_in_no_byte_after_the_next_compaction(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON, "secret-user", "secret-item"), click(NOON + 1, "bob", "b"))
    write_clicks(writer, click(NOON + HOUR, "secret-user", "secret-item-2"))
    compact(folder, NOON + 2 * HOUR)
    shown = {**click(NOON + 3, "secret-user", ""), "items": ["secret-item"]}
    writer.write({IMPRESSIONS: columns(IMPRESSIONS, [shown])})
    (folder.hour_folder(CLICKS, NOON // HOUR) / ".x.1234.writing").write_text("secret-item")
    delete(writer, NOON + HOUR + 1, "secret-user")
    write_clicks(writer, click(NOON + HOUR + 2, "secret-user", "new"))
    assert items_in(folder.path) == ["b", "new"]  # at once
    assert read_impressions(folder.path).empty
    assert b"secret-item" in all_bytes(folder.path)
    assert compact(folder, NOON + HOUR).erased_rows == 3
    assert b"secret-item" not in all_bytes(folder.path)
    assert items_in(folder.path) == ["b", "new"]
    delete(writer, NOON + HOUR + 3, "secret-user")
    assert compact(folder, NOON + HOUR).erased_rows == 1
    assert b"secret" not in all_bytes(folder.path)  # the deletions themselves are gone, too


def test_hours_end_after_the_days_that_are_kept(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON - 24 * HOUR, "ada", "old"), click(NOON, "ada", "new"))
    assert compact(folder, NOON + 1, keep_days=1) == Compacted()  # the hour has not ended a day ago
    assert compact(folder, NOON + HOUR, keep_days=1) == Compacted(removed_hours=1)
    assert items_in(folder.path) == ["new"]
    assert [path.name for path in (folder.path / CLICKS).iterdir()] == ["date=2026-01-01"]


def test_one_process_writes_a_folder(folder: EventsFolder) -> None:
    with (
        only_writer(folder.path),
        pytest.raises(FolderInUse, match="another process collects into"),
        only_writer(folder.path),
    ):
        pass


def test_a_folder_keeps_its_id_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    events = EventsFolder.create(tmp_path / "events")
    assert EventsFolder.create(events.path) == events
    assert EventsFolder.open(events.path.rename(tmp_path / "moved")).folder_id == events.folder_id
    moved = tmp_path / "moved"
    manifest = (moved / MANIFEST).read_text()
    for text, message in [
        (manifest.replace('"version": 1', '"version": 2'), "has version 2; this program knows"),
        (manifest.replace("recsys-events", "other"), "is no manifest of events"),
        ("{", "is damaged"),
    ]:
        (moved / MANIFEST).write_text(text)
        with pytest.raises(BadInput, match=message):
            EventsFolder.create(moved)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("")
    with pytest.raises(BadInput, match="holds files, but no recsys-events"):
        EventsFolder.create(tmp_path / "other")
    with pytest.raises(BadInput, match="has no recsys-events"):
        read_clicks(tmp_path / "other")


def test_a_file_that_is_no_parquet_is_named(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON, "ada", "a"))
    (file,) = folder.files(CLICKS)
    shutil.copy(file.path, file.path.with_name("copy.parquet"))  # its name does not count
    assert items_in(folder.path) == ["a"]
    file.path.write_bytes(b"PAR1 and no more")
    for read in (lambda: EventsWriter(folder), lambda: read_clicks(folder.path)):
        with pytest.raises(BadInput, match=f"{file.path.name} is no readable Parquet file"):
            read()


def test_a_file_with_a_damaged_page_is_named(folder: EventsFolder) -> None:
    write_clicks(EventsWriter(folder), *(click(NOON + n, "ada", f"item-{n}") for n in range(50)))
    (file,) = folder.files(CLICKS)
    content = bytearray(file.path.read_bytes())
    content[4:40] = b"\xff" * 36  # the footer is whole, so that the file can be opened
    file.path.write_bytes(content)
    EventsWriter(folder)
    with pytest.raises(BadInput, match=f"{file.path.name} is no readable Parquet file"):
        read_clicks(folder.path)


def test_what_is_not_ours_stops_nothing_and_stays(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON - 24 * HOUR, "ada", "old"), click(NOON, "ada", "new"))
    (old, _) = folder.files(CLICKS)
    (old.path.parent / "checkpoints").mkdir()
    (folder.path / CLICKS / "date=2026-02-31" / "hour=77").mkdir(parents=True)
    (folder.path / CLICKS / "date=2025-01-01").mkdir()
    (folder.path / CLICKS / "date=2025-01-01" / "hour=01").write_text("a file")
    assert compact(folder, NOON + HOUR, keep_days=1) == Compacted()
    assert items_in(folder.path) == ["new"]
    assert (old.path.parent / "checkpoints").is_dir()


def test_a_file_that_cannot_be_removed_is_named(
    folder: EventsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector goes on after a `BadInput`, and ends with any other error."""
    write_clicks(EventsWriter(folder), click(NOON - 24 * HOUR, "ada", "old"))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(BadInput, match="cannot be written: Read-only file system"):
        compact(folder, NOON + HOUR, keep_days=1)


def test_training_reads_the_clicks_of_the_folder_without_deleted_users(
    folder: EventsFolder,
) -> None:
    writer = EventsWriter(folder)
    with pytest.raises(BadInput, match="holds no click"):
        read_click_files(ClickOptions(folder.path))
    typed = {**click(NOON + 1, "ada", "b"), "event_type": "purchase"}
    viewed = {**click(NOON, "ada", "a"), "event_type": "view"}
    write_clicks(writer, viewed, typed, click(NOON + 2, "eve", "x", shard=8))
    write_clicks(writer, click(NOON + HOUR, "eve", "y", shard=8), click(NOON + HOUR, "ada", "c"))
    delete(writer, NOON + HOUR + 1, "eve", shard=8)
    for _ in range(2):
        log = read_click_files(ClickOptions(folder.path))
        assert [log.item_ids[code] for code in log.item] == ["a", "b", "c"]
        assert log.event is not None
        assert [log.event_ids[code] for code in log.event] == ["view", "purchase", ""]
        compact(folder, NOON + 3 * HOUR)
    read = read_sessions(ClickOptions(folder.path, event_column="event_type"))
    assert [read.sessions.item_ids[item] for item in read.sessions[0]] == ["a", "b", "c"]
    assert read.sessions.event_types == ("purchase", "view")


def test_a_file_without_rows_is_read(folder: EventsFolder) -> None:
    writer = EventsWriter(folder)
    write_clicks(writer, click(NOON, "eve", "x"))
    write_clicks(writer, click(NOON + 1, "ada", "a", shard=8))
    delete(writer, NOON + 2, "eve")
    compact(folder, NOON)
    assert [len(pq.read_table(file.path)) for file in folder.files(CLICKS)] == [0, 1]
    assert items_in(folder.path) == ["a"]
    assert len(read_click_files(ClickOptions(folder.path))) == 1
