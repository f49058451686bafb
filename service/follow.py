"""Looks again and again at what should be served, and has it served.

Two notes are followed: the pointer of a shelf, which outlives the service, and, where several
workers share a port, what one of them was told to load. A bundle that was refused is not tried
again until a note changes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from recsys.atomic import replace_file
from recsys.errors import RecsysError
from recsys.shelf import bundle_of, is_shelf
from service.models import Models

log = logging.getLogger("recsys.service")

Note = Callable[[], Path | None]  # the bundle folder that should be served; None for no wish


class Follower:
    """One task for the life of the service."""

    def __init__(self, models: Models, notes: Sequence[Note], seconds: float) -> None:
        self._models, self._notes, self._seconds = models, notes, seconds
        self._seen: list[Path | str | None] = [None] * len(notes)
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
            await self._look()

    async def _look(self) -> None:
        for at, note in enumerate(self._notes):
            wanted = await asyncio.to_thread(_read, note)
            if wanted == self._seen[at]:
                continue
            self._seen[at] = wanted
            if isinstance(wanted, Path) and wanted != self._models.current.folder:
                with contextlib.suppress(RecsysError):  # logged and counted where it was refused
                    await self._models.replace(wanted)
            elif isinstance(wanted, str):
                log.error("Model %s stays. %s", self._models.current.model_id, wanted)


def _read(note: Note) -> Path | str | None:
    """The folder, or a sentence where the note makes no sense."""
    try:
        return note()
    except RecsysError as refused:
        return str(refused)


def pointer_of(folder: Path) -> Note:
    """The pointer of a shelf; a folder that is a bundle itself says nothing more."""

    def read() -> Path | None:
        return bundle_of(folder) if is_shelf(folder) else None

    return read


class SharedNote:
    """A file in which one worker tells the others what to load."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Path | None:
        try:
            return Path(self._path.read_text(encoding="utf-8"))
        except OSError:
            return None

    def write(self, folder: Path) -> None:
        replace_file(self._path, lambda beside: beside.write_text(str(folder), encoding="utf-8"))
