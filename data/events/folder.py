"""Layout of an events folder, and which of its files count.

    recsys-events.json                           format, version and id of the folder
    clicks/date=2026-11-30/hour=07/000000000001-000000000360.parquet
    impressions/…   deletions/…   rejected/…     the same below each kind

Date and hour (UTC) are those of the entries. A file is named after the numbers of the first and the
last batch that it holds. A file whose numbers another file of its hour encloses is replaced by that
one. So one renaming merges files, and a crash leaves no row twice. Files with other names, such as
unfinished ones, do not count.
"""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recsys.errors import BadInput
from recsys.fileio import make_folders, replace_file

MANIFEST = "recsys-events.json"
FORMAT, VERSION = "recsys-events", 1
UNUSABLE = "The events folder cannot be used"
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
NAME = re.compile(r"(\d{12})-(\d{12})\.parquet")
HOUR_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)/hour=(\d\d)")


@dataclass(frozen=True, slots=True)
class EventFile:
    """One file of an hour, with the numbers of its first and last batch."""

    path: Path
    hour: int  # hours since 1970
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class EventsFolder:
    """An events folder; `folder_id` stays with it when it is moved or copied."""

    path: Path
    folder_id: str

    @classmethod
    def open(cls, path: Path) -> "EventsFolder":
        """Open the folder; raise `BadInput` where it is none, or of another version."""
        manifest = path / MANIFEST
        try:
            values = json.loads(manifest.read_bytes())
            kind, version = values["format"], values["version"]
            folder_id = values["folder_id"]
        except FileNotFoundError:
            raise BadInput(
                UNUSABLE, [f"{path} has no {MANIFEST}. Name a folder that recsys collect wrote."]
            ) from None
        except (OSError, ValueError, TypeError, LookupError) as broken:
            raise BadInput(
                UNUSABLE, [f"{manifest} is damaged ({broken!r}). Restore it from a backup."]
            ) from broken
        if kind != FORMAT or not isinstance(folder_id, str):
            raise BadInput(
                UNUSABLE, [f"{manifest} is no manifest of events ({kind!r}). Name another folder."]
            )
        if version != VERSION:
            raise BadInput(
                UNUSABLE,
                [
                    f"{path} has version {version!r}; this program knows version {VERSION}. Use "
                    "the version of recsys that wrote it, or name another folder."
                ],
            )
        return cls(path, folder_id)

    @classmethod
    def create(cls, path: Path) -> "EventsFolder":
        """Open the folder, which is made where there is none; raise `BadInput`."""
        if not (path / MANIFEST).exists():
            _refuse_other(path)
            make_folders(path)
            values = {"format": FORMAT, "version": VERSION, "folder_id": secrets.token_hex(8)}
            text = json.dumps(values, indent=2) + "\n"
            replace_file(path / MANIFEST, lambda beside: beside.write_text(text, encoding="utf-8"))
        return cls.open(path)

    def hour_folder(self, kind: str, hour: int) -> Path:
        """Return the folder of an hour."""
        begin = datetime.fromtimestamp(hour * HOUR_SECONDS, UTC)
        return self.path / kind / f"date={begin:%Y-%m-%d}" / f"hour={begin:%H}"

    def hours(self, kind: str) -> list[int]:
        """Return the hours that have a folder, oldest first."""
        found = []
        for folder in (self.path / kind).glob("date=*/hour=*"):
            match = HOUR_FOLDER.fullmatch(folder.relative_to(self.path / kind).as_posix())
            if match is not None and folder.is_dir():
                with suppress(ValueError):  # no hour of a calendar, so not ours
                    begin = datetime.strptime(" ".join(match.groups()), "%Y-%m-%d %H")
                    found.append(int(begin.replace(tzinfo=UTC).timestamp()) // HOUR_SECONDS)
        return sorted(found)

    def files(
        self, kind: str, since: float | None = None, until: float | None = None
    ) -> list[EventFile]:
        """Return the files that count, oldest first.

        Args:
            kind: `CLICKS`, `IMPRESSIONS`, `DELETIONS` or `REJECTED`.
            since: only of hours that end after these seconds since 1970.
            until: only of hours that begin before these seconds.
        """
        return [
            file
            for hour in self.hours(kind)
            if (since is None or (hour + 1) * HOUR_SECONDS > since)
            and (until is None or hour * HOUR_SECONDS < until)
            for file in current(self.files_of_hour(kind, hour))
        ]

    def files_of_hour(self, kind: str, hour: int) -> list[EventFile]:
        """Return all files of an hour, each after the file that replaces it."""
        found = _files_in(self.hour_folder(kind, hour), hour)
        return sorted(found, key=lambda file: (file.first, -file.last))


def current(files: Sequence[EventFile]) -> list[EventFile]:
    """Return those of the files of an hour, in the order of `files_of_hour`, that count."""
    found: list[EventFile] = []
    for file in files:
        if not found or file.last > found[-1].last:
            found.append(file)
    return found


def file_name(first: int, last: int) -> str:
    """Return the name of the file with these batches."""
    return f"{first:012}-{last:012}.parquet"


def position_of(entry: str) -> tuple[int, int]:
    """Return milliseconds and sequence of an entry, by which the entries of a shard are ordered."""
    _, milliseconds, sequence = entry.split("-")
    return int(milliseconds), int(sequence)


def _files_in(folder: Path, hour: int) -> Iterator[EventFile]:
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:  # retention has removed it
        return
    for path in paths:
        match = NAME.fullmatch(path.name)
        if match is not None:
            yield EventFile(path, hour, int(match[1]), int(match[2]))


def _refuse_other(path: Path) -> None:
    """Raise `BadInput` where the path holds something else."""
    if path.exists() and not path.is_dir():
        raise BadInput(UNUSABLE, [f"{path} is a file. Name a folder."])
    if path.is_dir() and any(not each.name.startswith(".") for each in path.iterdir()):
        raise BadInput(
            UNUSABLE,
            [f"{path} holds files, but no {MANIFEST}. Name a new folder, or an events folder."],
        )
