"""A log that may not fit into the memory is prepared before training, and only such a log."""

import importlib.util
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from data.click_options import ClickOptions
from data.distributed import runner, this_machine
from data.distributed.this_machine import estimated_bytes, memory_bytes
from recsys.cli import prepare_first
from recsys.cli.prepare_first import source_of
from recsys.errors import BadInput


def written(folder: Path, **sizes: int) -> ClickOptions:
    for name, size in sizes.items():
        (folder / name.replace("_", ".")).write_bytes(b"x" * size)
    return ClickOptions(folder)


def test_the_memory_is_estimated_from_the_bytes_of_the_files(tmp_path: Path) -> None:
    clicks = written(tmp_path, a_csv=1000, b_csv_gz=10, c_parquet=100)

    assert estimated_bytes(clicks) == 1000 * 8 + (10 + 100) * 40


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "1000000\n", 1_000_000),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "2000000", 2_000_000),
        ("memory/memory.limit_in_bytes", "9223372036854771712", None),
    ],
)
def test_a_container_has_less_memory_than_its_machine(
    tmp_path: Path, name: str, text: str, limit: int | None
) -> None:
    physical = memory_bytes(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)

    assert memory_bytes(tmp_path) == (physical if limit is None else limit)


def test_a_log_that_fits_is_read_in_memory(tmp_path: Path) -> None:
    clicks, console = written(tmp_path, a_csv=1000), Console(file=StringIO())

    assert source_of(clicks, tmp_path / "out", console, None) is clicks


@pytest.mark.parametrize(
    ("choice", "memory", "prepared"),
    [(None, 15_999, True), (None, 16_000, False), (False, 1, False)],
)
def test_half_of_the_memory_decides_unless_the_user_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: bool | None,
    memory: int,
    prepared: bool,
) -> None:
    monkeypatch.setattr(this_machine, "memory_bytes", lambda: memory)
    monkeypatch.setattr(prepare_first, "prepared_folder", lambda clicks, folder, *_: folder)
    clicks, said = written(tmp_path, a_csv=1000), StringIO()  # 8,000 bytes in memory

    source = source_of(clicks, tmp_path / "out", Console(file=said), choice)

    expected = tmp_path / "out.prepared" if prepared else clicks
    assert source == expected
    assert ("they are prepared first" in said.getvalue()) == prepared


def test_without_dask_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "missing_packages", lambda: "dask")

    with pytest.raises(BadInput, match=r"Install\s+session-recsys\[prepare\].*--in-memory"):
        source_of(written(tmp_path, a_csv=1), tmp_path / "out", Console(file=StringIO()), True)
    assert importlib.util.find_spec("dask") is not None


def test_processes_of_torchrun_do_not_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")

    with pytest.raises(BadInput, match="Prepare them once with recsys prepare"):
        source_of(written(tmp_path, a_csv=1), tmp_path / "out", Console(file=StringIO()), True)


def test_an_output_folder_with_files_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()

    with pytest.raises(BadInput, match="is not an empty folder"):
        source_of(written(tmp_path, a_csv=1), tmp_path / "out", Console(file=StringIO()), True)
