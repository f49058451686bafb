"""Law of preparation: partitions, workers and files decide nothing about the prepared folder."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from data.click_options import ClickOptions
from data.distributed.prepare import Preparation, in_stages
from data.distributed.ranges import BlockSizes
from data.distributed.runner import Runner, Stage
from data.files import Progress
from data.prepared.manifest import Origin
from data.prepared.run import Writer, in_memory
from data.synthetic import write_shop
from recsys.errors import BadInput
from tests.support.training.click_logs import SmallLog, small_logs

SMALL_BLOCKS = BlockSizes(block_bytes=8_000, batch_rows=400, blocks=1)
HEADER = "session_id,item_id,timestamp\n"


@contextmanager
def silent(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


def by(
    runner: Runner,
    options: ClickOptions,
    rows_per_partition: int,
    stage: Stage = silent,
    sizes: BlockSizes = SMALL_BLOCKS,
) -> Writer:
    """Return a writer whose unfinished work is beside the folder."""

    def write(folder: Path, origin: Origin) -> None:
        work = folder.with_name(f"{folder.name}.work")
        preparation = Preparation(options, work, rows_per_partition, stage, print, sizes)
        in_stages(preparation, lambda spill: nullcontext(runner))(folder, origin)

    return write


def outcome(folder: Path, options: ClickOptions, write: Writer) -> dict[str, bytes] | str:
    """Return all files that a writer leaves, or its message."""
    folder.mkdir()
    try:
        write(folder, Origin.of(options))
    except BadInput as refused:
        return str(refused)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def workers() -> Iterator[Client]:
    """Start two worker processes, for all tests of this module."""
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # other tests may use 8787
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ClickOptions:
    """Return a log of three files: 600 sessions of a synthetic shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, makers=1, sessions=600)
    header, *lines = (folder / "clicks.csv").read_text().splitlines(keepends=True)
    (folder / "clicks").mkdir()
    for number in range(3):
        third = lines[number * len(lines) // 3 : (number + 1) * len(lines) // 3]
        (folder / "clicks" / f"{number}.csv").write_text("".join([header, *third]))
    return ClickOptions(folder / "clicks", min_support=3)


@pytest.fixture(scope="module")
def in_one_process(
    shop: ClickOptions, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Return the files that the in-memory path makes of the shop."""
    files = outcome(tmp_path_factory.mktemp("memory") / "out", shop, in_memory(shop))
    assert isinstance(files, dict)
    return files


@given(
    log=small_logs(),
    rows_per_partition=st.sampled_from([100, 20, 7]),
    sizes=st.builds(
        BlockSizes, st.integers(80, 400), st.sampled_from([1, 5, 20]), st.sampled_from([1, 3])
    ),
)
def test_partitions_and_ranges_decide_nothing(
    log: SmallLog,
    rows_per_partition: int,
    sizes: BlockSizes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("log")
    options = log.write(tmp_path / "clicks")

    expected = outcome(tmp_path / "memory", options, in_memory(options))
    got = outcome(
        tmp_path / "stages", options, by(Runner(), options, rows_per_partition, sizes=sizes)
    )

    assert got == expected


def test_worker_processes_decide_nothing(
    shop: ClickOptions, in_one_process: dict[str, bytes], workers: Client, tmp_path: Path
) -> None:
    writer = by(Runner(workers), shop, 1000)

    assert outcome(tmp_path / "workers", shop, writer) == in_one_process


@pytest.mark.parametrize("title", ["Reading clicks", "Cutting sessions", "Ordering sessions"])
def test_a_killed_worker_decides_nothing(
    shop: ClickOptions,
    in_one_process: dict[str, bytes],
    workers: Client,
    tmp_path: Path,
    title: str,
) -> None:
    """The worker is killed when the first task of the stage has ended; another one replaces it."""
    killed: list[int] = []

    @contextmanager
    def stage(name: str) -> Iterator[Progress]:
        def kill_one(done: int, total: int) -> None:
            if name == title and done == 1 and not killed:
                killed.append(next(iter(workers.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        yield kill_one

    got = outcome(tmp_path / "workers", shop, by(Runner(workers), shop, 1000, stage))

    assert len(killed) == 1
    assert got == in_one_process


def bad_rows(folder: Path) -> ClickOptions:
    """Write problems into the first and the third of three files."""
    (folder / "a.csv").write_text(HEADER + "s,a,1\n,b,2\ns,b,yesterday\n")
    (folder / "b.csv").write_text(HEADER + "s,a,1\n")
    (folder / "c.csv").write_text(HEADER + "s,NaN,1\n")
    return ClickOptions(folder)


def broken_lines(folder: Path) -> ClickOptions:
    """Write a file whose lines are broken, between two with bad rows."""
    (folder / "a.csv").write_text(HEADER + ",a,1\n")
    (folder / "b.csv").write_text(HEADER + "s,a,1\ns,a,2,3\n")
    (folder / "c.csv").write_text(HEADER + "s,NaN,1\n")
    return ClickOptions(folder)


def very_many_problems(folder: Path) -> ClickOptions:
    """Write more problems than are collected, over two files."""
    (folder / "a.csv").write_text(HEADER + ",a,1\n" * 700)
    (folder / "b.csv").write_text(HEADER + ",a,1\n" * 700)
    (folder / "c.csv").write_text(HEADER + "s,a,1,2\n")
    return ClickOptions(folder)


def no_such_event(folder: Path) -> ClickOptions:
    (folder / "a.csv").write_text("session_id,item_id,timestamp,event_type\ns,a,1,view\n")
    return ClickOptions(folder, events=("buy",))


def divided_sessions(folder: Path) -> ClickOptions:
    """Write 30 sessions, all of which have two labels."""
    rows = [f"s{n % 30},i,{n},{'train' if n < 30 else 'test'}\n" for n in range(60)]
    (folder / "a.csv").write_text("session_id,item_id,timestamp,part\n" + "".join(rows))
    return ClickOptions(folder, split_column="part")


@pytest.mark.parametrize(
    "write_log",
    [bad_rows, broken_lines, very_many_problems, no_such_event, divided_sessions],
    ids=lambda function: function.__name__,
)
def test_messages_are_those_of_the_in_memory_path(
    write_log: Callable[[Path], ClickOptions], workers: Client, tmp_path: Path
) -> None:
    (tmp_path / "clicks").mkdir()
    options = write_log(tmp_path / "clicks")

    expected = outcome(tmp_path / "memory", options, in_memory(options))

    assert isinstance(expected, str)
    for number, runner in enumerate((Runner(), Runner(workers))):
        folder = tmp_path / f"workers-{number}"
        assert outcome(folder, options, by(runner, options, 10)) == expected


@pytest.mark.parametrize("event_files", [(), (0,), (0, 1)])
def test_the_event_column_is_compared_where_all_files_have_it(
    event_files: tuple[int, ...], tmp_path: Path
) -> None:
    """Each file repeats its rows with another event, which are duplicates if it is not compared."""
    (tmp_path / "clicks").mkdir()
    for number in (0, 1):
        has_event = number in event_files
        rows = [f"{number}-{s},i{s % 3},{100 * s + c}" for s in range(20) for c in (0, 1)]
        lines = [f"{r},{e}" if has_event else r for e in ("view", "buy") for r in rows]
        head = HEADER.strip() + (",event_type" if has_event else "")
        (tmp_path / "clicks" / f"{number}.csv").write_text("\n".join([head, *lines]) + "\n")
    options = ClickOptions(tmp_path / "clicks", drop_duplicates=True)

    expected = outcome(tmp_path / "memory", options, in_memory(options))
    got = outcome(tmp_path / "stages", options, by(Runner(), options, 15))

    assert isinstance(got, dict)
    assert got == expected
    assert (f'"rows": {80 if len(event_files) < 2 else 0},'.encode()) in got["manifest.json"]


REAL = {  # log → options of its preparation
    "yoochoose_sep14": {"split_column": "split", "min_support": 3},
    "globo_news": {"min_support": 5, "collapse": True},
    "taobao_sample": {"session_column": "none", "event_column": "event_type", "events": ("pv",)},
}


@pytest.fixture(scope="module", params=REAL)
def real_log(
    request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClickOptions, dict[str, bytes]]:
    """Return a real log in three files, and the files that the in-memory path makes of it."""
    folder = tmp_path_factory.mktemp(request.param)
    table = pq.read_table(real_data / request.param / "sessions.parquet")
    (folder / "clicks").mkdir()
    third = -(-len(table) // 3)
    for number in (2, 1, 0):  # the canonical order is that of the names
        pq.write_table(table.slice(number * third, third), folder / "clicks" / f"{number}.parquet")
    options = ClickOptions(folder / "clicks", **REAL[request.param])  # type: ignore[arg-type]
    expected = outcome(folder / "memory", options, in_memory(options))
    assert isinstance(expected, dict)
    return options, expected


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_real_clicks_are_prepared_alike(
    real_log: tuple[ClickOptions, dict[str, bytes]], tmp_path: Path, partitions: int, count: int
) -> None:
    options, expected = real_log
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in Path(str(options.path)).iterdir())
    cluster = LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    )

    with cluster, Client(cluster) as client:
        write = by(Runner(client), options, -(-rows // partitions), sizes=BlockSizes())
        got = outcome(tmp_path / "workers", options, write)

    assert got == expected


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_bad_rows_are_left_out_alike(ending: str, tmp_path: Path) -> None:
    """The second of two files has bad rows at the begin, in the middle and at the end."""
    good = [f"s{n // 4},i{n % 5},{n}" for n in range(120)]
    bad = ["s1,,5", *good[:60], "s1,i1,x", "broken", *good[60:], "broken,"]
    as_json = '{{"session_id": "{}", "item_id": "{}", "timestamp": "{}"}}'
    for number, lines in enumerate((good, bad)):
        if ending == ".jsonl":
            lines = [
                as_json.format(*row) if len(row := line.split(",")) == 3 else line for line in lines
            ]
        text = "\n".join([HEADER.strip(), *lines] if ending == ".csv" else lines)
        (tmp_path / f"{number}{ending}").write_text(text)
    sizes = BlockSizes(block_bytes=400, batch_rows=5, blocks=1)

    def made(name: str, allowed: int) -> tuple[dict[str, bytes] | str, bytes]:
        options = ClickOptions(
            tmp_path / f"*{ending}", skip_bad_rows=allowed, skipped_rows=tmp_path / "skipped.csv"
        )
        stages = by(Runner(), options, 20, sizes=sizes)
        writer = in_memory(options) if name == "memory" else stages
        result = outcome(tmp_path / f"{name}-{allowed}", options, writer)
        listed = tmp_path / "skipped.csv"
        return result, listed.read_bytes() if listed.exists() else b""

    assert made("stages", 2) == made("memory", 2)
    expected = made("memory", 4)
    assert isinstance(expected[0], dict)
    assert [line.split(",")[1] for line in expected[1].decode().splitlines()[1:]] == (
        ["1", "62", "63", "124"]
    )
    (tmp_path / "skipped.csv").unlink()
    assert made("stages", 4) == expected
