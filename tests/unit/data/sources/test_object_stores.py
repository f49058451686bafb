"""Clicks in a store are those of the same files on disk; what a store refuses is said.

A real server of S3 runs for this module.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from s3fs import S3FileSystem

from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.distributed.prepare import Preparation, in_stages
from data.distributed.ranges import BlockSizes
from data.distributed.runner import Runner
from data.files import UTF_8_TEXT, ClickFile, Progress, click_files
from data.prepared.manifest import MANIFEST, Origin
from data.prepared.run import Writer, in_memory
from data.sources.click_paths import find_files
from data.sources.dataframes import with_clicks
from data.sources.object_stores import StoreError, Url, as_location, open_object, state_of
from recsys.errors import BadInput
from tests.support.s3_server import Bucket, s3_bucket
from tests.support.training.command_line import GOOD, run
from tests.unit.data.distributed.test_prepare import silent

NAMES, *LINES = GOOD.splitlines(keepends=True)
COLUMNS = NAMES.strip().split(",")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Bucket]:
    """Run a server whose bucket has the files of the folder under `clicks`."""
    with s3_bucket("shop") as bucket:
        bucket.put_folder(folder, "clicks")
        bucket.put("clicks/date=3/", b"")  # as a console of S3 makes an empty folder
        yield bucket


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # it read the environment of another test
    yield server
    S3FileSystem.clear_instance_cache()


def as_json(lines: list[str]) -> str:
    rows = (dict(zip(COLUMNS, line.strip().split(","), strict=True)) for line in lines)
    return "".join(json.dumps({**row, "timestamp": int(row["timestamp"])}) + "\n" for row in rows)


def as_parquet(lines: list[str]) -> bytes:
    visitors, items, times = zip(*(line.strip().split(",") for line in lines), strict=True)
    sink = pa.BufferOutputStream()
    table = pa.table({"session_id": visitors, "item_id": items, "timestamp": map(int, times)})
    pq.write_table(table, sink, row_group_size=4)
    return bytes(sink.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log in Hive partitions, each file in another format, among files of no use.

    `date=1` comes before `date=1-2` as a folder, but after it as a text: / is above -.
    """
    parts = [LINES[n::6] for n in range(6)]
    texts = [(NAMES + "".join(part)).encode() for part in parts]
    zstd = pa.compress(as_json(parts[4]).encode(), codec="zstd", asbytes=True)
    contents = {
        "all.csv": texts[0],
        "date=1/event_type=buy/a.csv.gz": gzip.compress(texts[1]),
        "date=1/event_type=view/a.tsv": texts[2].replace(b",", b"\t"),
        "date=1-2/event_type=view/a.jsonl": as_json(parts[3]).encode(),
        "date=1-2/event_type=view/b.jsonl.zst": zstd,
        "date=2/a.parquet": as_parquet(parts[5]),
        "notes/old.csv": b"not,clicks\n",
        "date=2/_SUCCESS": b"",
        "date=2/.writing.csv": b"",
        ".old/date=1/a.csv": texts[0],
    }
    root = tmp_path_factory.mktemp("disk") / "clicks"
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("place", "files"),
    [
        ("clicks", 6),
        ("clicks/", 6),
        ("clicks/date=1*", 4),
        ("clicks/date=*/*/a.*", 3),
        ("clicks/**/a.*", 4),
        ("clicks/**", 7),
        ("clicks/date=[2-9]/?.parquet", 1),
        ("clicks/date=1/event_type=view/a.tsv", 1),
    ],
)
def test_a_place_in_a_store_gives_the_files_of_the_same_place_on_disk(
    folder: Path, bucket: Bucket, place: str, files: int
) -> None:
    on_disk, stored = find_files(folder.parent / place), find_files(bucket.url(place))

    assert [file.name for file in stored] == [file.name for file in on_disk]
    assert [file.partition for file in stored] == [file.partition for file in on_disk]
    assert [file.state.bytes for file in stored] == [file.state.bytes for file in on_disk]
    assert len(stored) == files


def arrays(out: Path, options: ClickOptions, write: Writer) -> dict[str, bytes]:
    out.mkdir()
    write(out, Origin.of(options))
    files = (path for path in out.iterdir() if path.is_file() and path.name != MANIFEST)
    return {path.name: path.read_bytes() for path in files}


def test_clicks_of_a_store_are_prepared_as_those_of_a_disk(
    folder: Path, bucket: Bucket, tmp_path: Path
) -> None:
    on_disk, stored = ClickOptions(folder), ClickOptions(bucket.url("clicks"))

    expected = arrays(tmp_path / "disk", on_disk, in_memory(on_disk))

    sizes = BlockSizes(batch_rows=4, blocks=1)
    preparation = Preparation(stored, tmp_path / "work", 7, silent, print, sizes)
    staged = in_stages(preparation, lambda spill: nullcontext(Runner()))

    assert arrays(tmp_path / "memory", stored, in_memory(stored)) == expected
    assert arrays(tmp_path / "stages", stored, staged) == expected


def test_workers_prepare_a_store_and_see_what_changes_in_it(
    folder: Path, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, name = bucket.put_folder(folder, "changing"), "date=1/event_type=view/a.tsv"
    out = tmp_path / "out"
    stored = ["prepare", "--clicks", str(url), "--out", str(out)]
    on_disk = ["prepare", "--clicks", str(folder), "--out", str(tmp_path / "disk")]
    assert run(capsys, *on_disk)[0] == 0

    by_workers = run(capsys, *stored, "--workers", "1")
    again = run(capsys, *stored)
    bucket.put(f"changing/{name}", (folder / name).read_bytes().replace(b"i1", b"i2"))
    changed = run(capsys, *stored)
    bucket.delete(f"changing/{name}")
    gone = run(capsys, *stored)

    assert by_workers[0] == 0, by_workers
    for path in (tmp_path / "disk").iterdir():
        assert path.name == MANIFEST or (out / path.name).read_bytes() == path.read_bytes()
    assert (again[0], changed[0], gone[0]) == (0, 2, 2)
    assert "Nothing has changed" in again[2]
    assert f"{name} has changed" in changed[2]
    assert f"{name} is gone" in gone[2]


def test_an_object_that_vanishes_while_workers_read_ends_the_preparation(
    folder: Path, bucket: Bucket, tmp_path: Path
) -> None:
    url, name = bucket.put_folder(folder, "vanishing"), "date=1/event_type=view/a.tsv"
    stored = ClickOptions(url)
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # other tests may use 8787
    )

    @contextmanager
    def stage(title: str) -> Iterator[Progress]:
        if title == "Reading clicks":
            bucket.delete(f"vanishing/{name}")
        yield lambda done, total: None

    preparation = Preparation(stored, tmp_path / "work", 7, stage, print)
    with cluster, Client(cluster) as client:
        staged = in_stages(preparation, lambda spill: nullcontext(Runner(client)))
        with pytest.raises(BadInput, match=rf"{name} cannot be read: It does not exist"):
            arrays(tmp_path / "out", stored, staged)


def test_an_object_that_changes_before_it_is_read_is_refused(bucket: Bucket) -> None:
    (file,) = click_files(bucket.put("log/a.csv", GOOD.encode()))
    bucket.put("log/a.csv", GOOD.replace("i1", "i2").encode())  # as long as before

    with pytest.raises(BadInput, match="has changed since it was found"):
        list(file.batches(COLUMNS))
    bucket.delete("log/a.csv")
    with pytest.raises(BadInput, match="does not exist"):
        list(file.batches(COLUMNS))
    for name, content in {"d.parquet": as_parquet(LINES), "d.csv": GOOD.encode()}.items():
        (found,) = find_files(bucket.put(name, content))
        bucket.delete(name)
        with pytest.raises(BadInput, match="does not exist"):
            ClickFile.of(found, UTF_8_TEXT)


@pytest.mark.parametrize(
    ("change", "message"), [("put", "has changed since it was found"), ("delete", "does not exist")]
)
def test_an_object_that_changes_while_it_is_read_is_refused(
    bucket: Bucket, change: str, message: str
) -> None:
    url = bucket.put("log/b.csv", b"a" * 1000)
    state = state_of(url)
    assert state is not None

    with open_object(url, state, 10) as opened:
        assert opened.read(5) == b"aaaaa"
        bucket.put("log/b.csv", b"b" * 1000) if change == "put" else bucket.delete("log/b.csv")
        with pytest.raises(StoreError, match=message):
            opened.read(900)


def message_of(path: Path | Url) -> str:
    with pytest.raises(BadInput) as caught:
        read_clicks(ClickOptions(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nowhere/a.csv", "The specified bucket does not exist"),
        ("s3://shop/nowhere.csv", "s3://shop/nowhere.csv: It does not exist"),
        ("s3://shop/nowhere/*.csv", "s3://shop/nowhere/*.csv matches no file"),
        ("s3://shop/a**.csv", "'**' can only be an entire path component"),
        ("s3://shop/some.xls", "s3://shop/some.xls ends in '.xls'. Give a file that ends in .csv"),
        ("s3://shop/empty.csv", "s3://shop/empty.csv is empty (0 bytes)"),
        ("s3://shop/some.parquet", "s3://shop/some.parquet is not a readable Parquet file"),
        ("sss://shop/a.csv", "The URL cannot be used (Protocol not known: sss)"),
    ],
)
def test_a_place_without_clicks_is_named(bucket: Bucket, url: str, message: str) -> None:
    for name in ("some.xls", "some.parquet"):
        bucket.put(name, b"text")
    bucket.put("empty.csv", b"")

    assert message in message_of(as_location(url))


def test_bad_rows_are_named_by_url(bucket: Bucket) -> None:
    url = bucket.put("bad.csv", (NAMES + "s,,1\n").encode())

    assert "s3://shop/bad.csv: row 1, item_id: '' is not an id" in message_of(url)


def test_missing_and_refused_keys_are_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    url = bucket.put("log/c.csv", GOOD.encode())
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::shop/log/c.csv"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**deny, "Principal": "*"}]})
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=policy)

    refused = message_of(url)
    bucket.client.delete_bucket_policy(Bucket=bucket.name)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    S3FileSystem.clear_instance_cache()
    missing = message_of(url)

    assert "Access is refused" in refused
    assert "Unable to locate credentials. Check AWS_ACCESS_KEY_ID and" in missing


def test_a_server_that_does_not_answer_is_said(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    message = message_of(bucket.url("a.csv"))

    assert "Could not connect to the endpoint URL" in message
    assert "Check AWS_ENDPOINT_URL, AWS_REGION and the network" in message


def test_a_folder_that_cannot_hold_a_copy_is_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = bucket.put("log/e.csv", GOOD.encode())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))

    assert f"cannot be written to {tmp_path}/full. Name another" in message_of(url)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)

    message = message_of(Url("s3a://shop/a.csv"))  # fsspec has not loaded it under this name

    assert "A package is missing (Install s3fs to access S3)" in message
    assert "Install session-recsys[s3]" in message


def test_only_an_url_of_a_store_is_one() -> None:
    assert as_location("s3://shop/clicks") == Url("s3://shop/clicks")
    assert as_location("file:///srv/clicks") == Path("/srv/clicks")
    assert as_location("clicks/2026-11-01T10:00.csv") == Path("clicks/2026-11-01T10:00.csv")
    assert as_location("C=1//a.csv") == Path("C=1/a.csv")
    assert with_clicks(ClickOptions(Path()), "s3://shop/a.csv").path == Url("s3://shop/a.csv")
