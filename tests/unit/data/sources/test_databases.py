"""Clicks of a database: a real PostgreSQL and a DuckDB file, and where no password may appear."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.prepared.manifest import Origin
from data.sources.databases import Query, as_file, as_source, export, without_passwords
from data.sources.object_stores import Url
from recsys.errors import BadInput
from tests.support.postgres import ENCODED, PASSWORD, USER, postgres, postgres_folder
from tests.support.training.command_line import run

ROWS = "(VALUES ('s1', 7, 10), ('s1', 8, 20), ('s2', 7, 30)) AS c (session_id, item_id, timestamp)"
SELECT = f"SELECT * FROM {ROWS} ORDER BY timestamp"
PROGRAMS = postgres_folder()
needs_postgres = pytest.mark.skipif(
    PROGRAMS is None, reason="no PostgreSQL is installed: make postgres"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the URI of a server, with the password."""
    assert PROGRAMS is not None
    with postgres(PROGRAMS) as port:
        yield f"postgresql://{USER}:{ENCODED}@127.0.0.1:{port}/postgres"


def query(text: str) -> Query:
    source = as_source(text)
    assert isinstance(source, Query)
    return source


@needs_postgres
def test_rows_of_postgres_are_read_like_a_file(address: str, tmp_path: Path) -> None:
    typed = (
        "SELECT md5(session_id)::uuid AS session_id, item_id, "
        f"to_timestamp(timestamp) AS timestamp, 1.5 AS price FROM {ROWS} ORDER BY timestamp"
    )
    origins, said = [], list[str]()
    for _ in range(2):
        with as_file(query(f"{address}?query={typed};"), said.append) as path:
            log = read_clicks(ClickOptions(path))
            origins.append(Origin.of(ClickOptions(path)))

    assert log.item_ids == ("7", "8")
    assert log.time_ms.tolist() == [10_000, 20_000, 30_000]
    assert [len(group) for group in log.group_ids] == [36, 36]  # UUIDs as texts
    assert origins[0] == origins[1]  # equal rows are unchanged clicks
    assert said[1] == "3 rows were read."
    assert PASSWORD not in str(said)
    assert ENCODED not in str(said)
    assert isinstance(path, Path)
    assert not path.exists()


@needs_postgres
@pytest.mark.parametrize(
    ("change", "sql", "sentence"),
    [
        (("", ""), "SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        (("", ""), "CREATE TABLE made (a int)", "read-only transaction"),
        (("", ""), "SELECT 1 AS a WHERE false", "the query has no rows"),
        ((ENCODED, "wr0ng"), SELECT, "password authentication failed"),
        (("postgres?", "postgres?password=wr0ng&"), SELECT, "password authentication failed"),
        ((ENCODED, f"{ENCODED}%zz"), SELECT, "invalid percent-encoded token"),
        ((ENCODED, "wr0ng/1"), SELECT, "Write them as %2F"),
    ],
)
def test_no_message_has_the_password(
    address: str, tmp_path: Path, change: tuple[str, str], sql: str, sentence: str
) -> None:
    with pytest.raises(BadInput) as refused:
        export(query(f"{address}?query={sql}".replace(*change)), tmp_path / "rows.parquet")

    said = f"{refused.value} {refused.value.__cause__}"
    assert sentence in said
    assert not any(secret in said for secret in (PASSWORD, ENCODED, "wr0ng"))


@needs_postgres
def test_no_file_and_no_output_of_a_command_has_the_password(
    capsys: pytest.CaptureFixture[str], address: str, tmp_path: Path
) -> None:
    rows = "SELECT 's' || i / 3 AS session_id, i % 3 AS item_id, i AS timestamp"
    clicks = f"{address}?query={rows} FROM generate_series(0, 29) AS i ORDER BY i"

    code, out, err = run(capsys, "prepare", "--clicks", clicks, "--out", str(tmp_path / "folder"))
    again = run(capsys, "prepare", "--clicks", clicks, "--out", str(tmp_path / "folder"))

    assert (code, again[0]) == (0, 0), err + again[2]
    assert "Nothing has changed" in again[2]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = b"".join(files) + (out + err + again[1] + again[2]).encode()
    assert PASSWORD.encode() not in everything
    assert ENCODED.encode() not in everything


def test_rows_of_duckdb_are_read_and_the_file_stays(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "shop.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE TABLE clicks AS SELECT * FROM {ROWS}")

    export(query(f"{path}?query=SELECT * FROM clicks ORDER BY timestamp"), tmp_path / "a.parquet")

    assert read_clicks(ClickOptions(tmp_path / "a.parquet")).item_ids == ("7", "8")
    with pytest.raises(BadInput, match="read-only"):
        export(query(f"{path}?query=DROP TABLE clicks"), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"there is no query\. Write postgresql://user@host"):
        query(str(path))
    with pytest.raises(BadInput, match=r"none\.duckdb"):
        export(query(f"{tmp_path}/none.duckdb?query=SELECT 1 AS a"), tmp_path / "c.parquet")


def test_a_command_is_shown_without_passwords() -> None:
    typed = "--clicks=postgresql://shop:a:b@c@host:5432/db?sslpassword=x&query=SELECT 'u:p@q'"

    shown = without_passwords(typed)

    assert shown == (
        "--clicks=postgresql://shop:***@host:5432/db?sslpassword=***&query=SELECT 'u:p@q'"
    )
    assert without_passwords("s3://bucket/a:b@c") == "s3://bucket/a:b@c"
    assert as_source("s3://bucket/clicks.csv") == Url("s3://bucket/clicks.csv")
    assert as_source("clicks.csv") == Path("clicks.csv")
