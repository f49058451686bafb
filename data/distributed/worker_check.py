"""Check of workers: they run the code of this process, and see its folder.

The bytes that are prepared depend on the code that reads and sorts clicks. A worker with other code
is refused, also one that joins the cluster while it works.
"""

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

import data
from data.distributed.runner import CONNECT_SECONDS, WorkersFailed

READERS = ("numpy", "pandas", "pyarrow")  # packages that read and sort clicks
PROBLEM = "The cluster cannot be used"
SAME_CODE = "Install the same on all machines."
Facts = Mapping[str, str]


@contextmanager
def only_same_code(client: Any, address: str, folder: Path) -> Iterator[None]:
    """Refuse workers that cannot prepare clicks with this process, as long as the block runs.

    Args:
        client: Of `distributed`.
        address: Of the cluster, for messages.
        folder: Folder that this process and its workers share.

    Raises:
        WorkersFailed: There is no worker, one has other code, or one sees no folder.
    """
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as none:
        raise WorkersFailed(
            PROBLEM, [f"{address} has no workers. Start some: dask worker {address}"]
        ) from none
    problems, here = [], code_facts()
    # a worker of another version may not even have the function: then it is an exception
    for name, facts in client.run(code_facts, on_error="return").items():
        if isinstance(facts, Exception):
            problems.append(f"worker {name} runs other code ({facts}). {SAME_CODE}")
        else:
            problems += [f"worker {name} {text}" for text in differences(facts, here)]
    if problems:
        raise WorkersFailed(PROBLEM, problems)
    seen = client.run(os.path.isdir, str(folder))
    blind = [
        f"worker {name} does not see {folder.parent}. Write to a folder that all machines "
        "share under one path."
        for name, sees in seen.items()
        if not sees
    ]
    if blind:
        raise WorkersFailed(PROBLEM, blind)
    plugin = SameCode(here)
    client.register_plugin(plugin)
    try:
        yield
    finally:
        if client.status == "running":  # else the cluster is lost
            with suppress(OSError):  # and so it may be now
                client.unregister_worker_plugin(plugin.name)


class SameCode(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Plugin that ends a worker with other code before it has a task."""

    def __init__(self, facts: Facts) -> None:
        """Keep the facts of the process that prepares."""
        self.name = f"same code as recsys prepare {uuid.uuid4().hex}"  # runs may share a cluster
        self._facts = facts

    def setup(self, worker: Any) -> None:
        """End the worker where it has other code; its log says why."""
        if problems := differences(code_facts(), self._facts):
            logging.getLogger("distributed.worker").error(
                "This worker is not used for recsys prepare: it %s", "; it ".join(problems)
            )
            # not awaited: closing waits for the end of this start
            worker.loop.add_callback(worker.close, reason="other code")


def code_facts() -> dict[str, str]:
    """Return what decides about prepared clicks in this process: versions and a digest of code."""
    digest, root = hashlib.sha256(), Path(data.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return {**{name: version(name) for name in READERS}, "code of data": digest.hexdigest()[:16]}


def differences(facts: Facts, here: Facts) -> list[str]:
    """Return a text for each fact of a worker that the process that prepares has otherwise."""
    return [
        f"has {what} {facts.get(what)}, and recsys prepare {mine}. {SAME_CODE}"
        for what, mine in here.items()
        if facts.get(what) != mine
    ]
