"""Ranges of a file have the batches of a reader of the whole file, or are refused."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.distributed.ranges import BlockSizes, ranges_of
from data.files import ClickFile, click_files
from recsys.errors import BadInput

NAMES = ["session_id", "item_id", "timestamp"]
HEADER = ",".join(NAMES)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \n", "\r\n\r\n"])
LINES = st.lists(st.tuples(st.sampled_from(["s,i,1", "sä,日本,22", "longer,ids,333"]), LINE_ENDS))


def as_json(line: str) -> str:
    session, item, time = line.split(",")
    return f'{{"session_id": "{session}", "item_id": "{item}", "timestamp": {time}}}'


def batches_of(source: ClickFile) -> list[dict[str, list[object]]] | None:
    """Return the batches with rows, or None where the file is refused."""
    try:
        batches = [batch.to_pydict() for batch, _ in source.batches(NAMES)]
    except BadInput:
        return None
    return [batch for batch in batches if batch["item_id"]]


@given(
    lines=LINES,
    ending=st.sampled_from([".csv", ".jsonl"]),
    end=st.sampled_from(["", "\n"]),
    block_bytes=st.integers(45, 150),
    blocks=st.integers(1, 3),
)
def test_blocks_are_those_of_arrow(
    lines: Sequence[tuple[str, str]],
    ending: str,
    end: str,
    block_bytes: int,
    blocks: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("log") / f"clicks{ending}"
    as_line = as_json if ending == ".jsonl" else str
    first = as_line("s,i,1") if ending == ".jsonl" else HEADER
    path.write_text(
        f"{first}\n" + "".join(as_line(text) + line_end for text, line_end in lines) + end,
        newline="",
    )
    (file,) = click_files(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("data.files.BLOCK_BYTES", block_bytes)
        whole = batches_of(file)
        parts = [
            batches_of(source)
            for source in ranges_of(file, BlockSizes(block_bytes=block_bytes, blocks=blocks))
        ]

    if None not in parts:
        assert [batch for part in parts for batch in part or []] == whole


@given(
    rows=st.integers(1, 60),
    row_group=st.integers(1, 20),
    batch_rows=st.integers(1, 12),
    blocks=st.integers(1, 3),
)
def test_batches_are_those_of_a_parquet_file(
    rows: int,
    row_group: int,
    batch_rows: int,
    blocks: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("log") / "clicks.parquet"
    table = pa.table({name: [f"{name}-{row}" for row in range(rows)] for name in NAMES})
    pq.write_table(table, path, row_group_size=row_group)
    (file,) = click_files(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("data.files.BATCH_ROWS", batch_rows)
        whole = batches_of(file)
        sources = ranges_of(file, BlockSizes(batch_rows=batch_rows, blocks=blocks))
        parts = [batches_of(source) for source in sources]

    assert [batch for part in parts for batch in part or []] == whole


def test_what_only_the_whole_file_explains_is_refused(tmp_path: Path) -> None:
    """A quoted value with a line end, a byte order mark inside, a line longer than a block."""
    rows = [f"s,i{number},{number}\n" for number in range(20)]
    odd = {
        "plain": "",
        "quoted": '"s\n1",i,5\n',
        "marked": "\ufeff",
        "long": "s," + "i" * 90 + ",5\n",
    }
    for name, text in odd.items():
        path = tmp_path / f"{name}.csv"
        head = HEADER + "\n" + "".join(rows)
        path.write_text(head.ljust(-(-len(head) // 40) * 40 - 1, " ") + "\n" + text + "".join(rows))
        (file,) = click_files(path)
        sources = ranges_of(file, BlockSizes(block_bytes=40, blocks=1))

        assert len(sources) > 2
        refused = None in [batches_of(source) for source in sources]
        assert refused == (name != "plain"), name
