"""Prepare clicks on the Dask cluster of docker-compose.yml, and train on them, as documented."""

import dataclasses
import json
import tempfile
import time
from pathlib import Path

from data.click_options import ClickOptions
from data.prepared.run import in_memory, make_folder
from data.synthetic import write_shop
from tests.compose.claims import check_locked
from tests.compose.project import CommandFailed, Project, inside
from tests.compose.upkeep import commands_under, without_terminal

WORKERS = 2
SMALLER = " --recipe default --set epochs=1 --set refit=false"


def prepared_and_trained(project: Project) -> str:
    """Run the commands of docs/your-own-clicks.md; compare the clicks with those of this process.

    Raises:
        AssertionError: Arrays differ, a worker is missing or not locked, or no bundle is new.
    """
    commands = commands_under("Prepared clicks", "your-own-clicks.md")[-1].splitlines()
    assert commands.pop(0) == "export CLICKS=/srv/shop", commands
    start, prepare, train, stop = map(without_terminal, commands)
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        shop.mkdir()
        write_shop(shop, makers=2, sessions=4000)
        Path(folder).chmod(0o755)  # the container's user is another one
        options = ClickOptions(shop / "clicks.csv")
        expected, _ = make_folder(Path(folder) / "prepared", options, in_memory(options))
        mounted = dataclasses.replace(
            project, environment={**project.environment, "CLICKS": str(shop)}
        )
        before = _current(mounted)
        seconds = [_timed(mounted, command) for command in (start, prepare)]
        workers = mounted.containers("worker")
        assert len(workers) == WORKERS, workers
        for each in (*workers, mounted.container("scheduler")):
            check_locked(each)
            assert inside(each, "id", "-u") != "0", each
        files = json.loads(_read(mounted, "/prepared/shop/manifest.json"))["files"]
        assert files == expected.manifest.files, "the arrays differ from those made in memory"
        seconds.append(_timed(mounted, train + SMALLER))
        assert _current(mounted) not in ("", before), "there is no new bundle"
        _timed(mounted, stop)
        assert not mounted.containers("worker"), "a worker still runs"
    up, prepared, trained = (f"{each:.0f} s" for each in seconds)
    clicks = sum(part.clicks for part in expected.manifest.parts.values())
    return f"up {up}, {clicks:,} clicks prepared {prepared}, trained {trained}; arrays as in memory"


def _timed(project: Project, command: str) -> float:
    began = time.perf_counter()
    project.shell(command, Path.cwd())
    return time.perf_counter() - began


def _current(project: Project) -> str:
    """Return the name of the current bundle, or an empty text."""
    try:
        return _read(project, "/bundles/current").strip()
    except CommandFailed:
        return ""


def _read(project: Project, path: str) -> str:
    """Return a file of the volumes of the service `train`."""
    return project("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "train", path)
