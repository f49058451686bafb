"""JSON lines as streams of batches: one event a line, or one session a line with its events.

The second form is that of the OTTO data set:
`{"session": 1, "events": [{"aid": 5, "ts": 1661724000278, "type": "clicks"}]}`. Each of its events
becomes a row, with the values of its session. The first line says which columns there are, and of
which type their values are.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

EVENTS = "events"  # the list of events of a session
BLOCK_BYTES = 8 << 20  # a line must fit into it


@dataclass(frozen=True)
class LineForm:
    """Columns of the first line with the types of their values.

    outer: of the line; inner: of an event in its list, None where a line is an event.
    """

    outer: Mapping[str, pa.DataType]
    inner: Mapping[str, pa.DataType] | None

    @classmethod
    def of(cls, lines: Iterable[str]) -> "LineForm":
        """Return the form of the first line that has an event.

        Raises:
            ValueError: A line is not a JSON object, or none has an event.
        """
        for line in lines:
            if not line.strip():
                continue
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("the first line is not a JSON object")
            events = values.get(EVENTS)
            if not isinstance(events, list):
                return cls(_types(values), None)
            if events and isinstance(events[0], dict):
                del values[EVENTS]
                return cls(_types(values), _types(events[0]))
        raise ValueError("no line has an event")

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names of the columns → types of their values."""
        return {**self.outer, **(self.inner or {})}

    def schema(self, names: list[str]) -> pa.Schema:
        """Return the schema of a line with these columns alone."""
        fields = [(name, kind) for name, kind in self.outer.items() if name in names]
        if self.inner is None:
            return pa.schema(fields)
        inner = pa.struct([(name, kind) for name, kind in self.inner.items() if name in names])
        return pa.schema([*fields, (EVENTS, pa.list_(inner))])


def read_lines(
    stream: pa.NativeFile, form: LineForm, names: list[str], block_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield batches of the named columns, one row for each event; a batch is a block of bytes."""
    reader = pajson.open_json(
        stream,
        read_options=pajson.ReadOptions(block_size=block_bytes, use_threads=False),
        parse_options=pajson.ParseOptions(
            explicit_schema=form.schema(names), unexpected_field_behavior="ignore"
        ),
    )
    for batch in reader:
        batch.validate(full=True)  # invalid UTF-8
        yield _flat(batch, form, names)


def _flat(batch: pa.RecordBatch, form: LineForm, names: list[str]) -> pa.RecordBatch:
    if form.inner is None:
        return batch.select(names)
    lists = batch[EVENTS]
    if lists.null_count:
        line = lists.is_null().index(True).as_py() + 1
        raise pa.ArrowInvalid(
            f"The list {EVENTS!r} is missing in line {line:,} after that, which line 1 of the file "
            "has. Write all lines in one form"
        )
    parents, events = pc.list_parent_indices(lists), lists.flatten()
    columns = [
        pc.struct_field(events, name) if name in form.inner else batch[name].take(parents)
        for name in names
    ]
    return pa.record_batch(columns, names=names)


def _types(values: Mapping[str, object]) -> dict[str, pa.DataType]:
    """Return the type of each value; other values than texts and numbers cannot be used."""
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return {name: kinds.get(type(value), pa.null()) for name, value in values.items()}
