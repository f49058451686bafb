"""Ranges of a large file, which several workers read side by side.

A range has the batches that a reader of the whole file has at its place: text and JSON lines are
cut where Arrow ends its blocks, at the last line end of every 8 MB, and Parquet files at multiples
of the size of a batch. A range knows neither the number of its first row nor that of its first
line, so it names no problem and leaves no row out: where anything in it is wrong, or could mean
something else in the whole file, it is refused, and one worker reads the whole file.

Compressed files, and text and JSON lines of a store, are read by one worker. So are text files with
a quotation mark, because a line end in a quoted value is no end of a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from data.bad_rows import BrokenRows
from data.files import BATCH_ROWS, UTF_8, ClickFile, parquet_of
from data.json_lines import BLOCK_BYTES, read_lines
from data.sources.object_stores import Url
from recsys.errors import BadInput

BLOCKS_PER_RANGE = 8
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Bytes of a block of text, rows of a batch of Parquet, and how many of them make a range."""

    block_bytes: int = BLOCK_BYTES
    batch_rows: int = BATCH_ROWS
    blocks: int = BLOCKS_PER_RANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange(ClickFile):
    """Blocks `first` to `last` - 1 of a file, whose batches it has."""

    first: int
    last: int
    sizes: BlockSizes

    def _own_batches(
        self, names: list[str], broken: BrokenRows | None
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        if self.found.format == "parquet":
            yield from ((batch, 0) for batch in self._rows(names))
            return
        form, header = self.form, self.schema.names
        for number, block in enumerate(self._blocks(), self.first):
            self._check(block, number)
            if not block.strip():
                continue
            content, block_bytes = pa.BufferReader(block), len(block) + 1
            if form is not None:
                batches = read_lines(content, form, names, block_bytes)
            else:
                batches = self._texts(content, names, block_bytes, header if number else None)
            for batch in batches:
                yield batch, 0

    def _blocks(self) -> Iterator[bytes]:
        """Yield the lines that end in each block of the file; the last block ends with the file."""
        assert isinstance(self.path, Path), "a text file of a store has no ranges"
        size, count = self.found.state.bytes, self.sizes.block_bytes
        with self.path.open("rb") as file:
            begun = b""
            if self.first:
                file.seek((self.first - 1) * count)
                begun = self._parted(file)[1]
            for number in range(self.first, self.last):
                if (number + 1) * count >= size:
                    yield begun + file.read()
                    return
                ended, rest = self._parted(file)
                yield begun + ended
                begun = rest

    def _parted(self, file: BinaryIO) -> tuple[bytes, bytes]:
        """Read one block, and return it up to its last line end, and the line begun after it."""
        block = file.read(self.sizes.block_bytes)
        at = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        if at == 0:
            raise self._unclear("a line fills a block")
        return block[:at], block[at:]

    def _check(self, block: bytes, number: int) -> None:
        if self.found.format == "text" and b'"' in block:
            raise self._unclear("a quoted value may have line ends")
        if number and block.startswith(BYTE_ORDER_MARK):
            raise self._unclear("a reader would skip a byte order mark")
        if not number and not block.strip():
            raise self._unclear("the first block is empty")

    def _unclear(self, why: str) -> BadInput:
        return BadInput(f"{self.path} is not read by ranges", [f"{why}."])

    def _rows(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield batches of the rows of this range, from the row groups that have some of them."""
        begins, rows = row_group_begins(self), self.sizes.batch_rows
        first, end = self.first * rows, min(self.last * rows, begins[-1])
        groups = [
            group
            for group, (begin, after) in enumerate(pairwise(begins))
            if begin < end and after > first
        ]
        at, waiting = begins[groups[0]], pa.table({})
        with parquet_of(self.found) as file:
            for batch in file.iter_batches(rows, groups, names, use_threads=False):
                new = batch.slice(max(first - at, 0))[: max(end - max(at, first), 0)]
                at += batch.num_rows
                tables = [waiting, pa.Table.from_batches([new])]
                waiting = pa.concat_tables(tables if waiting.num_columns else tables[1:])
                while len(waiting) >= rows or (at >= end and len(waiting)):
                    yield waiting[:rows].combine_chunks().to_batches()[0]
                    waiting = waiting[rows:]


def row_group_begins(file: ClickFile) -> list[int]:
    """Return the number of the first row of each row group of a Parquet file, and of its rows."""
    with parquet_of(file.found) as opened:
        metadata = opened.metadata
    begins = [0]
    for group in range(metadata.num_row_groups):
        begins.append(begins[-1] + metadata.row_group(group).num_rows)
    return begins


def ranges_of(file: ClickFile, sizes: BlockSizes) -> Sequence[ClickFile]:
    """Return the ranges of a file in order, or the file itself where one worker reads it."""
    if file.found.format == "parquet":
        bounds = [0]
        for begin in row_group_begins(file):
            number = -(-begin // sizes.batch_rows)
            if number - bounds[-1] >= sizes.blocks:
                bounds.append(number)
        ends = -(-row_group_begins(file)[-1] // sizes.batch_rows)
    else:
        ends = -(-file.found.state.bytes // sizes.block_bytes)
        bounds = list(range(0, ends, sizes.blocks))
        whole = file.found.compression is not None or isinstance(file.path, Url)
        whole |= file.text.encoding != UTF_8
        if whole or _has_quotes(file, sizes):
            bounds = [0]
    if bounds[-1] < ends:
        bounds.append(ends)
    if len(bounds) <= 2:
        return [file]
    return [
        FileRange(file.found, file.schema, file.text, file.form, first=a, last=b, sizes=sizes)
        for a, b in pairwise(bounds)
    ]


def _has_quotes(file: ClickFile, sizes: BlockSizes) -> bool:
    """Return whether the first block of a text file has a quotation mark."""
    if file.found.format != "text" or isinstance(file.path, Url):
        return False
    with file.path.open("rb") as lines:
        return b'"' in lines.read(sizes.block_bytes)
