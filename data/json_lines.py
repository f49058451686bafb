"""JSON lines as streams of batches: one event a line, or one session a line with its events.

The second form is that of the OTTO data set:
`{"session": 1, "events": [{"aid": 5, "ts": 1661724000278, "type": "clicks"}]}`. Each of its events
becomes a row, with the values of its session. A field of an object is a column, too: `product.sku`
of `{"product": {"sku": "A-17"}}`. The first lines say which columns there are, and of which type
their values are.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from data.bad_rows import BrokenRows

EVENTS = "events"  # the list of events of a session
BLOCK_BYTES = 8 << 20  # a line must fit into it
FIRST_LINES = 1000  # that say which columns there are
OPENINGS = ("[", "{")  # of a value that goes on in the next line
PLACE_IN_BLOCK = re.compile(r" in row \d+$")  # of a message of pyarrow


class NotLines(ValueError):
    """JSON of another form than one object a line."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """Value of a line: the fields that lead to it, and its type."""

    path: tuple[str, ...]
    kind: pa.DataType


@dataclass(frozen=True)
class LineForm:
    """Columns of the first lines with the types of their values.

    outer: of the line; inner: of an event in its list, None where a line is an event.
    """

    outer: Mapping[str, Leaf]
    inner: Mapping[str, Leaf] | None

    @classmethod
    def of(cls, lines: Iterable[str], *, skip_broken: bool = False) -> "LineForm":
        """Return the form of the first lines; the first one that has an event decides about it.

        Raises:
            NotLines: The file is an array, or an object of several lines.
            ValueError: A line is not a JSON object, or none has an event.
        """
        outer: dict[str, Leaf] = {}
        inner: dict[str, Leaf] = {}
        is_flat: bool | None = None
        for values in islice(_objects(lines, skip_broken=skip_broken), FIRST_LINES):
            events = values.get(EVENTS)
            of_line = not isinstance(events, list)
            if is_flat is None and not of_line and not _first_of(events):
                continue
            is_flat = of_line if is_flat is None else is_flat
            if of_line != is_flat:
                continue
            rest = values if is_flat else {k: v for k, v in values.items() if k != EVENTS}
            _add_leaves(outer, rest)
            for event in events if isinstance(events, list) else []:
                _add_leaves(inner, event if isinstance(event, dict) else {})
        if is_flat is None:
            raise ValueError("no line has an event")
        return cls(outer, None if is_flat else inner)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names of the columns → types of their values."""
        return {name: leaf.kind for name, leaf in {**self.outer, **(self.inner or {})}.items()}

    def schema(self, names: list[str]) -> pa.Schema:
        """Return the schema of a line with these columns alone."""
        fields = _fields([leaf for name, leaf in self.outer.items() if name in names])
        if self.inner is None:
            return pa.schema(fields)
        inner = pa.struct(_fields([leaf for name, leaf in self.inner.items() if name in names]))
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


def read_good_lines(
    stream: pa.NativeFile, form: LineForm, names: list[str], block_bytes: int, broken: BrokenRows
) -> Iterator[pa.RecordBatch]:
    """Yield batches as `read_lines` does, and add the lines that cannot be read to `broken`."""
    rows = 0
    for block in _whole_lines(stream, block_bytes):
        waiting = [[line for line in block.splitlines(keepends=True) if line.strip()]]
        while waiting:
            lines = waiting.pop()
            content = b"".join(lines)
            try:
                batches = list(
                    read_lines(pa.BufferReader(content), form, names, len(content) + 1)
                    if lines
                    else ()
                )
            except pa.ArrowException as wrong:
                if len(lines) == 1:
                    reason = PLACE_IN_BLOCK.sub("", str(wrong).strip().rstrip("."))
                    text = content.decode(errors="replace").strip()
                    broken.add(rows + len(broken.rows) + 1, f"the line is broken: {reason}.", text)
                else:
                    half = len(lines) // 2
                    waiting += [lines[half:], lines[:half]]
                continue
            rows += sum(batch.num_rows for batch in batches)
            yield from batches


def _whole_lines(stream: pa.NativeFile, block_bytes: int) -> Iterator[bytes]:
    """Yield the lines that end in each block of the stream, and those that are left."""
    begun = b""
    while block := stream.read(block_bytes):
        block = begun + block
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        begun = block[end:]
        yield block[:end]
    yield begun


def _flat(batch: pa.RecordBatch, form: LineForm, names: list[str]) -> pa.RecordBatch:
    def outer(name: str) -> pa.Array:
        first, *rest = form.outer[name].path
        return pc.struct_field(batch[first], rest) if rest else batch[first]

    if form.inner is None:
        return pa.record_batch([outer(name) for name in names], names=names)
    lists = batch[EVENTS]
    if lists.null_count:
        line = lists.is_null().index(True).as_py() + 1
        raise pa.ArrowInvalid(
            f"The list {EVENTS!r} is missing in line {line:,} after that, which line 1 of the file "
            "has. Write all lines in one form"
        )
    parents, events = pc.list_parent_indices(lists), lists.flatten()
    columns = [
        pc.struct_field(events, list(form.inner[name].path))
        if name in form.inner
        else outer(name).take(parents)
        for name in names
    ]
    return pa.record_batch(columns, names=names)


def _objects(lines: Iterable[str], *, skip_broken: bool) -> Iterator[dict[str, object]]:
    """Yield the object of each line that is not empty."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as wrong:
            values = wrong
        if number == 1 and (isinstance(values, list) or line.strip() in OPENINGS):
            raise NotLines("it is one JSON value, and not one object a line. jq -c '.[]' splits it")
        if isinstance(values, dict):
            yield values
        elif not skip_broken:
            why = f" ({values})" if isinstance(values, ValueError) else ""
            raise ValueError(f"line {number:,} is not a JSON object{why}")


def _first_of(events: object) -> dict[str, object]:
    """Return the first event of a list, or nothing where there is none."""
    first = events[0] if isinstance(events, list) and events else None
    return first if isinstance(first, dict) else {}


def _add_leaves(
    leaves: dict[str, Leaf], values: Mapping[str, object], above: tuple[str, ...] = ()
) -> None:
    """Add the values that are new, or were null before; others than texts and numbers stay null."""
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, dict):
            _add_leaves(leaves, value, path)
            continue
        name, kind = ".".join(path), kinds.get(type(value), pa.null())
        if name not in leaves or leaves[name].kind == pa.null():
            leaves[name] = Leaf(path, kind)


def _fields(leaves: Sequence[Leaf]) -> list[pa.Field]:
    """Return the fields of an object with these values alone."""
    below: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        below.setdefault(leaf.path[0], []).append(Leaf(leaf.path[1:], leaf.kind))
    return [
        pa.field(name, found[0].kind if not found[0].path else pa.struct(_fields(found)))
        for name, found in below.items()
    ]
