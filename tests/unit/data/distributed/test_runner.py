"""Options of workers check themselves; the command starts workers and ends them."""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import LocalCluster

import data
from data.distributed import runner, this_machine
from data.distributed.runner import ClusterOptions, open_runner
from recsys.errors import BadInput
from tests.support.training.command_line import GOOD, run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2, "address": "tcp://a:1"}, "--workers starts a cluster and --cluster uses"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"worker_memory": "2GB"}, "--worker-memory is of the workers that --workers starts"),
        ({"workers": 1, "worker_memory": "much"}, "at least 500MB, got 'much'"),
        ({"workers": 1, "worker_memory": "1e400"}, "at least 500MB, got '1e400'"),
        ({"workers": 1, "worker_memory": "499MB"}, "at least 500MB, got '499MB'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        ClusterOptions(**options)  # type: ignore[arg-type]


def test_partitions_follow_the_memory_of_a_worker() -> None:
    """A worker has 2,000 bytes for each row of a partition."""
    assert ClusterOptions(workers=2).rows_per_partition == 2_000_000_000 // 2000
    assert ClusterOptions(workers=2, worker_memory="1GB").rows_per_partition == 500_000


def test_the_command_writes_the_same_folder_with_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process and no unfinished file is left."""
    (tmp_path / "clicks.csv").write_text(GOOD)
    given = ["prepare", "--clicks", str(tmp_path / "clicks.csv"), "--out"]

    alone = run(capsys, *given, str(tmp_path / "alone"))
    shared = run(capsys, *given, str(tmp_path / "shared"), "--workers", "1")

    assert (alone[0], shared[0]) == (0, 0), shared[2]
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.csv", "alone", "shared"}
    for path in (tmp_path / "alone").iterdir():
        assert (tmp_path / "shared" / path.name).read_bytes() == path.read_bytes(), path.name
    assert alone[2].replace("alone", "shared") == shared[2]
    assert multiprocessing.active_children() == []


def test_clicks_beyond_the_memory_are_prepared_by_workers_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clicks.csv").write_text(GOOD)
    monkeypatch.setattr(this_machine, "memory_bytes", lambda: 2 * 8 * len(GOOD) - 1)
    given = ["prepare", "--clicks", str(tmp_path / "clicks.csv"), "--out"]

    code, _, said = run(capsys, *given, str(tmp_path / "workers"))
    in_memory = run(capsys, *given, str(tmp_path / "memory"), "--in-memory")

    assert (code, in_memory[0]) == (0, 0), said
    assert "1 workers of 0.5 GB prepare them" in said
    assert "workers" not in in_memory[2]
    for path in (tmp_path / "memory").iterdir():
        assert (tmp_path / "workers" / path.name).read_bytes() == path.read_bytes(), path.name


def test_no_workers_and_workers_contradict_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clicks.csv").write_text(GOOD)
    given = ["prepare", "--clicks", str(tmp_path / "clicks.csv"), "--out", str(tmp_path / "out")]

    code, _, said = run(capsys, *given, "--in-memory", "--workers", "1")

    assert (code, "--in-memory uses no workers" in said) == (2, True), said


def test_a_worker_with_other_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has other versions and other code than its worker."""
    monkeypatch.setattr(runner, "version", lambda name: f"not that of {name}")
    monkeypatch.setattr(data, "__file__", str(tmp_path / "__init__.py"))
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # other tests may use 8787
    )

    with (
        cluster,
        pytest.raises(BadInput, match="has code of data ") as refused,
        open_runner(ClusterOptions(address=cluster.scheduler_address), tmp_path),
    ):
        pass

    for name in runner.READERS:
        assert f", and this process not that of {name}. Install the same" in str(refused.value)


@pytest.mark.long
def test_a_worker_with_other_code_that_joins_later_ends_the_stage(tmp_path: Path) -> None:
    """The results of the stage do not count."""
    (tmp_path / "other").mkdir()
    copied = shutil.copytree(Path(data.__file__).parent, tmp_path / "other" / "data")
    (copied / "changed.py").write_text("")
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # other tests may use 8787
    )

    with (
        cluster,
        open_runner(ClusterOptions(address=cluster.scheduler_address), tmp_path) as workers,
    ):
        assert list(workers.map(abs, [(-1,)], lambda done, total: None)) == [1]
        late = start_worker(cluster.scheduler_address, tmp_path / "other")
        try:
            cluster.wait_for_workers(2, timeout=60)
            with pytest.raises(BadInput, match="has code of data ") as refused:
                list(workers.map(abs, [(-2,)], lambda done, total: None))
        finally:
            late.kill()
            late.wait()

    assert str(refused.value).count("worker tcp://") == 1


def start_worker(address: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a Dask worker that finds its code in this folder first."""
    return subprocess.Popen(
        [sys.executable, "-m", "dask", "worker", address, "--no-dashboard", "--no-nanny"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_no_worker_starts_for_clicks_that_do_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, out = tmp_path / "nowhere.csv", tmp_path / "out"

    code, _, error = run(
        capsys, "prepare", "--clicks", str(clicks), "--out", str(out), "--workers", "1"
    )

    assert code == 2
    assert "nowhere.csv does not exist" in error
    assert not out.exists()


def test_a_cluster_that_is_lost_is_named(tmp_path: Path) -> None:
    """The scheduler ends after the first of two tasks."""
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # other tests may use 8787
    )

    def end_scheduler(done: int, total: int) -> None:
        if done == 1:
            cluster.close()

    options = ClusterOptions(address=cluster.scheduler_address)
    with (
        cluster,
        pytest.raises(BadInput, match="the cluster was lost"),
        open_runner(options, tmp_path) as workers,
    ):
        list(workers.map(time.sleep, [(0.1,), (10,)], end_scheduler))
