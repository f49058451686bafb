"""Running of tasks: by the workers of a Dask cluster, or one after the other in this process."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import Progress
from recsys.errors import BadInput

Stage = Callable[[str], AbstractContextManager[Progress]]  # shows the progress of one stage
BYTES_PER_ROW = 2000  # of a worker's memory: rows are copied and sorted, and Dask keeps buffers
ROWS_PER_PARTITION = 1_000_000


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """A cluster to start in processes of this machine, or the address of a running one.

    Raises:
        BadInput: The options contradict each other, or a number cannot be used.
    """

    workers: int | None = None
    worker_memory: str = "2GB"
    address: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.workers is not None and self.address is not None:
            problems.append(
                "--workers starts a cluster and --cluster uses a running one. Give one of them."
            )
        if self.workers is not None and self.workers < 1:
            problems.append(f"--workers must be at least 1, got {self.workers}.")
        if self.worker_bytes() < 500_000_000:
            problems.append(
                f"--worker-memory must be at least 500MB, got {self.worker_memory!r}: a worker "
                "without data has 200MB."
            )
        if problems:
            raise BadInput("The options cannot be used", problems)

    def worker_bytes(self) -> int:
        """Return the memory of a worker."""
        from dask.utils import parse_bytes

        try:
            return int(parse_bytes(self.worker_memory))
        except ValueError as wrong:
            raise BadInput(
                "The options cannot be used",
                [f"--worker-memory must be a size like 2GB, got {self.worker_memory!r}."],
            ) from wrong

    @property
    def rows_per_partition(self) -> int:
        """Number of clicks that a worker holds at a time, about."""
        if self.address is not None:  # its workers have the memory that they were started with
            return ROWS_PER_PARTITION
        return self.worker_bytes() // BYTES_PER_ROW


class Runner:
    """Runs tasks and yields their results in the order in which they end."""

    def __init__(self, client: Any | None = None) -> None:
        """Build a runner.

        client: of `distributed`; None runs the tasks in this process, without workers.
        """
        self._client = client

    @property
    def shuffle_method(self) -> str:
        """Name that Dask gives its shuffle: between processes and on disk, or as plain tasks."""
        return "tasks" if self._client is None else "p2p"

    def run(self, tasks: Sequence[Any], progress: Progress) -> Iterator[Any]:
        """Yield the result of each task; raise `BadInput` where workers do not survive one."""
        import dask

        progress(0, len(tasks))
        if self._client is None:
            yield from dask.compute(*tasks, scheduler="synchronous")
            return
        from distributed import KilledWorker, as_completed

        ended = as_completed(self._client.compute(list(tasks)), with_results=True)
        try:
            for done, (_, result) in enumerate(ended, 1):
                yield result
                progress(done, len(tasks))
        except KilledWorker as killed:
            raise BadInput(
                "The clicks cannot be prepared",
                [
                    f"several workers ended at the same task ({killed}). Give them more memory "
                    "with --worker-memory, or see their logs."
                ],
            ) from killed

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
        BadInput: Dask is not installed, or no cluster answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as missing:
        raise BadInput(
            "The clicks cannot be prepared by workers",
            [f"{missing.name} is not installed. Install session-recsys[prepare]."],
        ) from missing
    if options.address is not None:
        try:
            client = Client(options.address, timeout=10)
        except (OSError, ValueError) as failed:
            raise BadInput(
                "The cluster cannot be used",
                [f"{options.address} does not answer ({failed}). Start dask scheduler there."],
            ) from failed
        with client:
            yield Runner(client)
        return
    with (
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,  # the memory of a worker is that of one task
            memory_limit=options.worker_bytes(),
            local_directory=str(spill),
            dashboard_address=None,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Runner(client)
