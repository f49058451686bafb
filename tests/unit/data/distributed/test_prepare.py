"""Law of preparation: partitions, workers and files decide nothing about the prepared folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.click_options import ClickOptions
from data.distributed.prepare import write_in_stages
from data.distributed.runner import Runner
from data.files import Progress
from data.prepared.manifest import Origin
from data.prepared.run import Writer, in_memory
from recsys.errors import BadInput
from tests.support.training.click_logs import SmallLog, small_logs


@contextmanager
def silent(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


def in_stages(options: ClickOptions, rows_per_partition: int, runner: Runner) -> Writer:
    return lambda folder, origin: write_in_stages(
        folder, origin, options, rows_per_partition, runner, silent
    )


def outcome(folder: Path, options: ClickOptions, write: Writer) -> dict[str, bytes] | str:
    """Return all files that a writer leaves, or its message."""
    folder.mkdir()
    try:
        write(folder, Origin.of(options))
    except BadInput as refused:
        return str(refused)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@given(log=small_logs(), rows_per_partition=st.sampled_from([100, 20, 7, 3]))
def test_partitions_decide_nothing(
    log: SmallLog, rows_per_partition: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("log")
    options = log.write(tmp_path / "clicks")

    expected = outcome(tmp_path / "memory", options, in_memory(options))
    got = outcome(tmp_path / "stages", options, in_stages(options, rows_per_partition, Runner()))

    assert got == expected
