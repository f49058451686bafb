"""Watch which bundle is to be served, and have it served.

Two sources are read. The current version of a model registry outlives the service. Where several
workers share a port, a file names the version that one of them was asked to load; it is valid until
the current version of the registry is written again. A bundle that was refused is tried again only
after its source was written anew, with the same content, too.

The files of the served bundle are watched, too. They are mapped into memory, so a file that is
truncated ends the process by SIGBUS at the next request that reads it. The log names the file
before that.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.bundle.experiment import Experiment
from recsys.bundle.registry import CURRENT_VERSION, bundle_path, is_registry, read_current
from recsys.errors import RecsysError
from recsys.fileio import replace_file
from service.model_manager import ModelManager, OpenedBundle

log = logging.getLogger("recsys.service")

WriteStamp = tuple[int, int]  # inode and ns of the last write of a file: changes with every write


@dataclass(frozen=True, slots=True)
class RequestedVersion:
    """Bundle that is to be served, and the experiment beside it.

    The same content written again is another request.
    """

    folder: Path
    written: WriteStamp
    experiment: Experiment | None = None


VersionSource = Callable[[], RequestedVersion | None]  # None: nothing is requested


class BundleWatcher:
    """Read the sources of requested versions every few seconds, in one task.

    Args:
        models: where a requested version is served.
        sources: functions that return a requested version.
        seconds: time between two checks.
    """

    def __init__(
        self, models: ModelManager, sources: Sequence[VersionSource], seconds: float
    ) -> None:
        self._models, self._sources, self._seconds = models, sources, seconds
        self._last_read: list[RequestedVersion | str | None] = [None] * len(sources)
        self._files = _file_stamps(models.opened)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name="bundle-watcher")

    async def stop(self) -> None:
        """Stop the task, without waiting for a model that is being opened."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self.check()

    async def check(self) -> None:
        """Serve what the sources request, if that is new."""
        try:
            await self._check_files()
            await self._check_sources()
        except Exception:  # an unforeseen error must not end the task
            log.exception(
                "The check for a new bundle failed. The current model is served on, and the check "
                "is repeated in %g s.",
                self._seconds,
            )

    async def _check_sources(self) -> None:
        for index, source in enumerate(self._sources):
            requested = await asyncio.to_thread(_read, source)
            if requested == self._last_read[index]:
                continue
            self._last_read[index] = requested
            if isinstance(requested, RequestedVersion):
                await self._serve(requested)
            elif isinstance(requested, str):
                log.error("Model %s is served on. %s", self._models.current.model_id, requested)

    async def _serve(self, requested: RequestedVersion) -> None:
        if requested.folder == self._models.current.folder:
            await self._models.split(requested.experiment)
            return
        with contextlib.suppress(RecsysError):  # `replace` has logged and counted it
            await self._models.replace(requested.folder, requested.experiment)

    async def _check_files(self) -> None:
        """Log every file of a served bundle that was written to since the last check."""
        stamps = await asyncio.to_thread(_file_stamps, self._models.opened)
        for path, stamp in stamps.items():
            before = self._files.get(path, stamp)  # a file of a new model has no earlier stamp
            if stamp.inode == before.inode and stamp != before:
                log.error(
                    "%s was changed while it is served: it has %d bytes, before %d. Answers may be "
                    "wrong, and SIGBUS may end the process. Never write into a bundle: publish a "
                    "new one.",
                    path,
                    stamp.size,
                    before.size,
                )
        self._files = stamps


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Inode, size in bytes and time of the last write of a file of the bundle.

    A file that is replaced has a new inode. Only writing into the same inode reaches a process that
    has the file mapped.
    """

    inode: int
    size: int
    written_ns: int


def _file_stamps(models: Sequence[OpenedBundle]) -> dict[Path, FileStamp]:
    """Return the stamps of the files of bundles, without missing files."""
    stamps = {}
    for path in (model.folder / name for model in models for name in model.manifest.files):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            stamps[path] = FileStamp(status.st_ino, status.st_size, status.st_mtime_ns)
    return stamps


def _read(source: VersionSource) -> RequestedVersion | str | None:
    """Return the requested version, or a message if the source cannot be read."""
    try:
        return source()
    except RecsysError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return (
            f"The file that names the requested bundle cannot be read: {error}. Publish it again."
        )


def registry_source(folder: Path) -> VersionSource:
    """Return a source that reads the current version of a registry.

    If the folder is a bundle itself, the source requests nothing.
    """

    def read() -> RequestedVersion | None:
        # the stamp is read first, so that the content is at least as new
        stamp = _write_stamp(folder / CURRENT_VERSION)
        if stamp is None or not is_registry(folder):
            return None
        published = read_current(folder)
        return RequestedVersion(bundle_path(folder, published.main), stamp, published.experiment)

    return read


class SharedVersionFile:
    """File in which one worker tells the other workers which bundle to load.

    Args:
        path: the file.
        registry: folder of the registry. The file is void once its current version is written.
    """

    def __init__(self, path: Path, registry: Path) -> None:
        self._path, self._pointer = path, registry / CURRENT_VERSION

    def read(self) -> RequestedVersion | None:
        """Return the requested version; None if there is no file or it is void."""
        stamp = _write_stamp(self._path)
        if stamp is None:
            return None
        content = json.loads(self._path.read_text(encoding="utf-8"))
        if content["pointer"] != self._registry_stamp():
            return None
        lines = content["experiment"]
        experiment = Experiment.of_lines(lines) if lines else None
        return RequestedVersion(Path(content["folder"]), stamp, experiment)

    def write(self, folder: Path, experiment: Experiment | None = None) -> None:
        """Request the bundle in `folder`, and an experiment beside it."""
        request = {
            "folder": str(folder),
            "experiment": [] if experiment is None else experiment.lines(),
            "pointer": self._registry_stamp(),
        }
        content = json.dumps(request)
        replace_file(self._path, lambda beside: beside.write_text(content, encoding="utf-8"))

    def _registry_stamp(self) -> list[int]:
        """Return the stamp of the current version, as JSON reads it; empty if there is none."""
        return list(_write_stamp(self._pointer) or ())


def _write_stamp(file: Path) -> WriteStamp | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
