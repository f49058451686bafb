"""Clicks of a database: the rows of a query become a Parquet file, which is read like any other.

`postgresql://user@host/db?query=SELECT …` is read by Apache Arrow's driver (ADBC), in a read-only
transaction, and `shop.duckdb?query=SELECT …` by DuckDB, read-only. The query is the end of the
text, as it is. No text that this module makes has a password. This module loads no pyarrow, so that
`--help` is quick.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from data.sources.object_stores import Url, as_location
from recsys.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

POSTGRES = re.compile(r"postgres(?:ql)?://")
DUCKDB = re.compile(r"(?i).*\.(?:duckdb|ddb)(?:\?|$)")
QUERY = re.compile(r"[?&]query=")
HIDDEN = "***"
PASSWORDS = {  # pattern → what stands for it
    re.compile(r"(://[^:/@]*:).*@"): rf"\1{HIDDEN}@",
    re.compile(r"(password=)[^&]*"): rf"\1{HIDDEN}",
}
EXTRA = "session-recsys[databases]"
CANNOT = "The database cannot be read"
BATCH_ROWS = 262_144
EXAMPLES = (
    "postgresql://user@host/db?query=SELECT session_id, item_id, timestamp FROM clicks, or "
    "shop.duckdb?query=SELECT …; quote it"
)


@dataclass(frozen=True, slots=True)
class Query:
    """Query of a database; its text has no password."""

    connection: str  # of Postgres: a URI of libpq; of DuckDB: a path
    sql: str

    def __post_init__(self) -> None:
        if self.is_postgres and not self._is_clear():
            raise BadInput(
                CANNOT,
                [
                    f"{self.database}: user and password may not have the signs / ? # [ ]. Write "
                    "them as %2F %3F %23 %5B %5D, or give the password in PGPASSWORD or ~/.pgpass."
                ],
            )
        if not self.sql.strip():
            raise BadInput(CANNOT, [f"{self.database}: there is no query. Write {EXAMPLES}."])

    def __str__(self) -> str:
        return self.database

    def __repr__(self) -> str:
        return f"Query({self.database!r})"

    @property
    def is_postgres(self) -> bool:
        return POSTGRES.match(self.connection) is not None

    @property
    def database(self) -> str:
        """Connection without a password."""
        return without_passwords(self.connection)

    @property
    def _parts(self) -> Any:
        return urlsplit(self.connection)

    def _is_clear(self) -> bool:
        """Return whether user and password end where they seem to end."""
        try:
            return "@" not in f"{self._parts.path}{self._parts.fragment}"
        except ValueError:
            return False

    def hide(self, text: str) -> str:
        """Return a message of the database without a password, on one line."""
        _, colon, password = self._parts.netloc.rpartition("@")[0].partition(":")
        pairs = parse_qsl(self._parts.query)
        secrets = [password] * bool(colon) + [v for name, v in pairs if "password" in name]
        for secret in filter(None, secrets):
            for form in (secret, unquote(secret)):
                text = text.replace(form, HIDDEN)
        return " ".join(text.split()).rstrip(".")


def without_passwords(text: str) -> str:
    """Return a command-line argument without the password of a database in it."""
    if POSTGRES.search(text) is None:
        return text
    at = QUERY.search(text)
    connection, rest = (text, "") if at is None else (text[: at.start()], text[at.start() :])
    for pattern, shown in PASSWORDS.items():
        connection = pattern.sub(shown, connection)
    return connection + rest


def as_source(text: str | Path) -> "Path | Url | Query":
    """Return a path, a URL, or the query of a database that the text is; raise `BadInput`."""
    if isinstance(text, Path) or not (POSTGRES.match(text) or DUCKDB.match(text)):
        return as_location(text)
    connection, *rest = QUERY.split(text, maxsplit=1)
    return Query(connection, rest[0] if rest else "")


@contextmanager
def as_file(source: "Path | Url | Query", say: Callable[[str], None]) -> Iterator[Path | Url]:
    """Yield a path or a URL as it is, and a query as a temporary file with its rows.

    The name of the file has the digest of its content, and its time is always the same: equal rows
    are unchanged clicks.

    say: called with a sentence.
    """
    if not isinstance(source, Query):
        yield source
        return
    with TemporaryDirectory(prefix="recsys-query-") as folder:
        say(f"Running the query on {source}")
        path = Path(folder) / "rows.parquet"
        say(f"{export(source, path):,} rows were read.")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path = path.rename(path.with_name(f"query-{digest[:16]}.parquet"))
        os.utime(path, ns=(0, 0))
        yield path


def export(query: Query, path: Path) -> int:
    """Write the rows of a query into a Parquet file, and return their number.

    Raises:
        BadInput: The database or the query cannot be used, or the file cannot be written.
    """
    import pyarrow.parquet as pq

    rows = 0
    with _reader(query) as reader:
        batches = _batches(query, reader)
        first = next(batches, None)
        if first is None:
            raise BadInput(CANNOT, [f"{query}: the query has no rows. Change it."])
        try:
            with pq.ParquetWriter(path, first.schema) as writer:
                for batch in chain([first], batches):
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except OSError as failed:
            raise BadInput(
                CANNOT,
                [
                    f"its rows cannot be written to {gettempdir()} ({failed}). Name another folder "
                    "with TMPDIR."
                ],
            ) from failed
    return rows


@contextmanager
def _reader(query: Query) -> Iterator["pa.RecordBatchReader"]:
    open_reader = _of_postgres if query.is_postgres else _of_duckdb
    try:
        with open_reader(query) as reader:
            yield reader
    except ImportError as missing:
        raise BadInput(
            CANNOT, [f"{query}: a package is missing ({missing}). Install {EXTRA}."]
        ) from missing


@contextmanager
def _of_postgres(query: Query) -> Iterator["pa.RecordBatchReader"]:
    from adbc_driver_postgresql import dbapi

    try:
        connection = dbapi.connect(query.connection)
    except dbapi.Error as failed:
        advice = "Check the address; the password may be in PGPASSWORD or ~/.pgpass"
        raise _failed(query, failed, advice) from None
    with connection, connection.cursor() as cursor:
        try:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(query.sql)
            reader = cursor.fetch_record_batch()
        except dbapi.Error as failed:
            raise _failed(query, failed, "Check the query") from None
        yield reader


@contextmanager
def _of_duckdb(query: Query) -> Iterator["pa.RecordBatchReader"]:
    import duckdb

    try:
        connection = duckdb.connect(query.connection, read_only=True)
    except duckdb.Error as failed:
        raise _failed(query, failed, "Check the path") from None
    with connection:
        try:
            relation = connection.sql(query.sql)
        except duckdb.Error as failed:
            raise _failed(query, failed, "Check the query") from None
        if relation is None:
            raise BadInput(CANNOT, [f"{query}: the query returns nothing. Give a SELECT."])
        yield relation.to_arrow_reader(BATCH_ROWS)


def _failed(query: Query, failed: Exception, advice: str) -> BadInput:
    return BadInput(CANNOT, [f"{query}: {query.hide(str(failed))}. {advice}."])


def _batches(query: Query, reader: "pa.RecordBatchReader") -> Iterator["pa.RecordBatch"]:
    """Yield the batches that have rows, with plain types; raise `BadInput` where one fails."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except Exception as failed:  # of the driver, in the middle of the rows
            raise _failed(query, failed, "Run the command again") from None
        if batch.num_rows:
            yield _plain(batch)


def _plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Return the batch with UUIDs as texts, and numerics and JSON as the texts that they hold."""
    import pyarrow as pa

    def plain(column: "pa.Array") -> "pa.Array":
        if not isinstance(column, pa.ExtensionArray):
            return column
        if pa.types.is_string(column.type.storage_type):
            return column.storage
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.array(texts, pa.string())

    columns = [plain(column) for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)
