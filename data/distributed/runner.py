"""Running of tasks: by the workers of a Dask cluster, or one after the other in this process."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import data
from data.files import Progress
from recsys.errors import BadInput

Stage = Callable[[str], AbstractContextManager[Progress]]  # shows the progress of one stage
CONNECT_SECONDS = 10
WORKER_MEMORY = "2GB"  # assumed of the workers of a running cluster, too
LEAST_WORKER_BYTES = 500_000_000  # an idle worker has 200 MB
BYTES_PER_ROW = 2000  # of a worker's memory: rows are copied and sorted, and Dask keeps buffers


SAME_CODE = "Install the same on all machines."
# packages that read and sort clicks
READERS = ("numpy", "pandas", "pyarrow")


class WorkersFailed(BadInput):
    """Workers or their cluster cannot be reached, ended, or lack memory or disk."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """A cluster to start in processes of this machine, or the address of a running one.

    Raises:
        BadInput: The options contradict each other, or a number cannot be used.
    """

    workers: int | None = None
    worker_memory: str | None = None  # None: 2GB
    address: str | None = None

    def __post_init__(self) -> None:
        rules = [
            (
                self.workers is None or self.address is None,
                "--workers starts a cluster and --cluster uses a running one. Give one of them.",
            ),
            (
                self.workers is None or self.workers >= 1,
                f"--workers must be at least 1, got {self.workers}. Give a whole number.",
            ),
            (
                self.worker_memory is None or self.workers is not None,
                "--worker-memory is of the workers that --workers starts. Give both.",
            ),
            (
                self.worker_bytes >= LEAST_WORKER_BYTES,
                f"--worker-memory must be at least 500MB, got {self.worker_memory!r}. "
                "Give a size like 2GB.",
            ),
        ]
        problems = [text for holds, text in rules if not holds]
        if problems:
            raise BadInput("The options cannot be used", problems)

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker; 0 where the text is not a size."""
        from dask.utils import parse_bytes

        try:
            return int(parse_bytes(self.worker_memory or WORKER_MEMORY))
        except (ValueError, OverflowError):
            return 0

    @property
    def rows_per_partition(self) -> int:
        """Number of clicks that a worker holds at a time, about."""
        return self.worker_bytes // BYTES_PER_ROW


def missing_packages() -> str:
    """Return the names of the packages that are not installed, "" where all are."""
    return " and ".join(name for name in ("dask", "distributed") if find_spec(name) is None)


def check_installed() -> None:
    """Raise `BadInput` where Dask is not installed, before anything else is done."""
    if missing := missing_packages():
        raise BadInput(
            "The clicks cannot be prepared by workers",
            [f"{missing} are not installed. Install session-recsys[prepare]."],
        )


class Runner:
    """Runs tasks and yields their results in the order in which they end."""

    def __init__(self, client: Any | None = None, check: Callable[[], None] = lambda: None) -> None:
        """Build a runner.

        Args:
            client: Of `distributed`; None runs the tasks in this process, without workers.
            check: Called after the last task of a stage, before its results count.
        """
        self._client, self._check = client, check

    @property
    def shuffle_method(self) -> str:
        """Name that Dask gives its shuffle: between processes and on disk, or as plain tasks."""
        return "tasks" if self._client is None else "p2p"

    def run(self, tasks: Sequence[Any], progress: Progress) -> Iterator[Any]:
        """Yield the result of each task; raise `WorkersFailed` where workers do not survive one."""
        import dask

        progress(0, len(tasks))
        if self._client is None:
            yield from dask.compute(*tasks, scheduler="synchronous")
            return
        from distributed import KilledWorker, as_completed

        ended = as_completed(self._client.compute(list(tasks)), with_results=True)
        try:
            for done, (_, result) in enumerate(ended, 1):
                if isinstance(result, Exception):  # of a future without a scheduler
                    raise WorkersFailed(
                        "The clicks cannot be prepared",
                        [f"the cluster was lost ({result}). Start it, and repeat the command."],
                    )
                yield result
                progress(done, len(tasks))
            self._check()
        except KilledWorker as killed:
            raise WorkersFailed(
                "The clicks cannot be prepared",
                [
                    f"several workers ended at the same task ({killed}). Give them more memory "
                    "with --worker-memory, or see their logs."
                ],
            ) from killed
        except RuntimeError as failed:
            if not str(failed).startswith("P2P "):  # the shuffle of Dask
                raise
            raise WorkersFailed(
                "The clicks cannot be prepared",
                [
                    f"the workers could not exchange clicks ({failed}: {failed.__cause__}). Where "
                    "their disk is full, free space; else see their logs."
                ],
            ) from failed

    def map(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], progress: Progress
    ) -> Iterator[Any]:
        """Yield the results of the function for each tuple of arguments."""
        from dask import delayed

        task = delayed(function, pure=False)
        yield from self.run([task(*arguments) for arguments in calls], progress)


@contextmanager
def open_runner(options: ClusterOptions, spill: Path) -> Iterator[Runner]:
    """Start a cluster, or connect to one, and yield its runner.

    spill: folder on a disk with room for the log, for the workers of a cluster started here.

    Raises:
        WorkersFailed: No cluster answers.
    """
    import dask
    from distributed import Client, LocalCluster

    if options.address is not None:
        with _connected(options.address) as client:
            _check_workers(client, options.address, spill)
            yield Runner(client, partial(_check_code, client))
        return
    with (
        dask.config.set(_shuffle_settings(options)),
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,  # the memory of a worker is that of one task
            memory_limit=options.worker_bytes,
            local_directory=str(spill),
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # 8787 may be in use
            silence_logs=logging.CRITICAL,  # the message of the run has what went wrong
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Runner(client)


def _shuffle_settings(options: ClusterOptions) -> dict[str, Any]:
    """Return settings of Dask's shuffle for workers of one machine.

    What waits to be sent takes an eighth of a worker's memory at most, not 1 GB. Where a disk is
    full, workers repeat what they send for 20 seconds, not for three minutes.
    """
    return {
        "distributed.p2p.comm.buffer": options.worker_bytes // 8,
        "distributed.p2p.comm.retry.delay.max": "2s",
    }


def _connected(address: str) -> Any:
    """Return a client of the cluster."""
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as failed:
        raise WorkersFailed(
            "The cluster cannot be used",
            [f"{address} does not answer ({failed}). Start dask scheduler there."],
        ) from failed


def code_facts() -> dict[str, str]:
    """Return what decides about prepared clicks in this process: versions and a digest of code."""
    digest, root = hashlib.sha256(), Path(data.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return {**{name: version(name) for name in READERS}, "code of data": digest.hexdigest()[:16]}


def _check_workers(client: Any, address: str, folder: Path) -> None:
    """Raise `WorkersFailed` for no worker, one with other code, or one that sees no folder."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as none:
        raise WorkersFailed(
            "The cluster cannot be used",
            [f"{address} has no workers. Start some: dask worker {address}"],
        ) from none
    _check_code(client)
    blind = [name for name, sees in client.run(os.path.isdir, str(folder)).items() if not sees]
    if blind:
        raise WorkersFailed(
            "The cluster cannot be used",
            [
                f"worker {name} does not see {folder.parent}. Write to a folder that all machines "
                "share under one path."
                for name in blind
            ],
        )


def _check_code(client: Any) -> None:
    """Raise `WorkersFailed` for a worker with other code; it may have joined meanwhile."""
    here, problems = code_facts(), []
    # a worker of another version may not even have the function: then it is an exception
    for name, facts in client.run(code_facts, on_error="return").items():
        if isinstance(facts, Exception):
            problems.append(f"worker {name} runs other code ({facts}). {SAME_CODE}")
            continue
        problems += [
            f"worker {name} has {what} {facts.get(what)}, and this process {mine}. {SAME_CODE}"
            for what, mine in here.items()
            if facts.get(what) != mine
        ]
    if problems:
        raise WorkersFailed("The cluster cannot be used", problems)
