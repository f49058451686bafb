"""Looks again and again at what should be served, and has it served.

Two notes are followed: the pointer of a shelf, which outlives the service, and, where several
workers share a port, what one of them was told to load. The latter counts until the pointer is
written again. A bundle that was refused is not tried again until a note is written anew, also
with the same words.

The files of the served bundle are watched, too. They are mapped into memory, so a file that is
truncated ends the process by SIGBUS at the next request that reads it; the log names it before.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.bundle.registry import CURRENT_VERSION, is_registry, resolve_bundle
from recsys.errors import RecsysError
from recsys.fileio import replace_file
from service.model_manager import Model, ModelManager

log = logging.getLogger("recsys.service")

Stamp = tuple[int, int]  # of a note: its inode and when it was written, ns


@dataclass(frozen=True, slots=True)
class RequestedVersion:
    """What a note says should be served; written again it is another wish."""

    folder: Path
    written: Stamp


Note = Callable[[], RequestedVersion | None]  # None for no wish


class BundleWatcher:
    """One task for the life of the service."""

    def __init__(self, models: ModelManager, notes: Sequence[Note], seconds: float) -> None:
        self._models, self._notes, self._seconds = models, notes, seconds
        self._seen: list[RequestedVersion | str | None] = [None] * len(notes)
        self._files = _file_stamps(models.current)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="follower")

    async def stop(self) -> None:
        """A model that is being opened is not waited for."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._check_files()
                await self._look()
            except Exception:  # whatever it is, the next note is followed all the same
                log.exception("What should be served could not be looked at")

    async def _look(self) -> None:
        for at, note in enumerate(self._notes):
            wanted = await asyncio.to_thread(_read, note)
            if wanted == self._seen[at]:
                continue
            self._seen[at] = wanted
            if (
                isinstance(wanted, RequestedVersion)
                and wanted.folder != self._models.current.folder
            ):
                with contextlib.suppress(RecsysError):  # logged and counted where it was refused
                    await self._models.replace(wanted.folder)
            elif isinstance(wanted, str):
                log.error("Model %s stays. %s", self._models.current.model_id, wanted)

    async def _check_files(self) -> None:
        """Log every file of the served bundle that was written to since the last look."""
        found = await asyncio.to_thread(_file_stamps, self._models.current)
        for path, stamp in found.items():
            before = self._files.get(path, stamp)  # of a new model there is none
            if stamp.inode == before.inode and stamp != before:
                log.error(
                    "%s was changed while it is served: it has %d bytes, before %d. Answers may be "
                    "wrong, and SIGBUS may end the process. Never write into a bundle: publish a "
                    "new one.",
                    path,
                    stamp.size,
                    before.size,
                )
        self._files = found


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file's identity, size in bytes and time of the last write; a replaced file has a new inode.

    Only writing into the same inode reaches a process that has the file mapped.
    """

    inode: int
    size: int
    written_ns: int


def _file_stamps(model: Model) -> dict[Path, FileStamp]:
    """Stamps of the files of a model's bundle, as far as they are there."""
    stamps = {}
    for path in (model.folder / name for name in model.manifest.files):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            stamps[path] = FileStamp(found.st_ino, found.st_size, found.st_mtime_ns)
    return stamps


def _read(note: Note) -> RequestedVersion | str | None:
    """The wish, or a sentence where the note makes no sense."""
    try:
        return note()
    except RecsysError as refused:
        return str(refused)
    except (OSError, ValueError) as failed:
        return f"A note cannot be read: {failed}."


def pointer_of(folder: Path) -> Note:
    """The pointer of a shelf; a folder that is a bundle itself says nothing more."""

    def read() -> RequestedVersion | None:
        stamp = _stamp(folder / CURRENT_VERSION)  # first: what is read is at least as new
        return (
            RequestedVersion(resolve_bundle(folder), stamp)
            if stamp and is_registry(folder)
            else None
        )

    return read


class SharedNote:
    """A file in which one worker tells the others what to load."""

    def __init__(self, path: Path, shelf: Path) -> None:
        """shelf: whose pointer, once written again, makes the note void."""
        self._path, self._pointer = path, shelf / CURRENT_VERSION

    def read(self) -> RequestedVersion | None:
        stamp = _stamp(self._path)
        if stamp is None:
            return None
        said = json.loads(self._path.read_text(encoding="utf-8"))
        return (
            RequestedVersion(Path(said["folder"]), stamp)
            if said["pointer"] == self._era()
            else None
        )

    def write(self, folder: Path) -> None:
        said = json.dumps({"folder": str(folder), "pointer": self._era()})
        replace_file(self._path, lambda beside: beside.write_text(said, encoding="utf-8"))

    def _era(self) -> list[int]:
        """As JSON gives it back; empty where there is no pointer."""
        return list(_stamp(self._pointer) or ())


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
