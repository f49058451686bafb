"""Click files of a path or a URL: a file, a folder, a folder of Hive partitions, or a pattern.

A folder of events (`data/events/folder.py`) gives the files of its clicks.

The order of the files is that of their names, folder by folder; it decides the order of rows. Disks
and stores give the same names in the same order.
"""

import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from data.events.folder import MANIFEST, EventsFolder
from data.events.reading import Deletions
from data.sources.object_stores import (
    FileState,
    MissingObject,
    StoreError,
    Url,
    list_folder,
    pattern_of,
    state_of,
)
from recsys.errors import BadInput
from recsys.events.schemas import CLICKS

FORMATS = {
    ".csv": "text",
    ".tsv": "text",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
}
# read only where the path or the pattern ends so: a folder may hold other such files
NAMED_FORMATS = {".txt": "text", ".json": "json"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # of text and of JSON lines
PREPARED_ARRAY = "train.items.i32"  # of a folder that recsys prepare wrote
WILDCARDS = "*?["
CLICK_FILES = "click files"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file with its format, and the columns that Hive partitions give all of its rows.

    name: path below the folder, without what all files of a log share; ending: without that of the
    compression; deletions: of users whose rows do not count, None for no events.
    """

    path: Path | Url
    name: str
    ending: str
    state: FileState
    compression: str | None = None
    partition: Sequence[tuple[str, str]] = ()
    deletions: Deletions | None = None

    @property
    def format(self) -> str:
        """Return text, json or parquet."""
        return {**FORMATS, **NAMED_FORMATS}[self.ending]


class UnusablePath(ValueError):
    """Path at which there is no file that can be read."""


def find_files(path: Path | Url, what: str = CLICK_FILES) -> list[FoundFile]:
    """Return the files of a path in order; raise `BadInput` where there is none.

    what: name of the files in messages.
    """
    try:
        files = _of_url(path) if isinstance(path, Url) else _of_path(path)
    except StoreError as failed:
        raise BadInput(f"The {what} cannot be used", [f"{path}: {failed}."]) from failed
    except UnusablePath as wrong:
        raise BadInput(f"The {what} cannot be used", [str(wrong)]) from None
    return sorted(dict.fromkeys(files), key=lambda file: file.name.split("/"))


def endings() -> str:
    """Return the endings of files that can be read, for a message."""
    known = ", ".join([*FORMATS, *NAMED_FORMATS])
    return f"{known}, all but .parquet also with {' or '.join(COMPRESSIONS)}"


def _of_path(path: Path) -> list[FoundFile]:
    if not path.exists() and _is_wild(str(path)):
        return _of_pattern(path)
    if not path.exists():
        raise UnusablePath(f"{path} does not exist.")
    if not path.is_file() and not path.is_dir():
        raise UnusablePath(f"{path} is neither file nor folder.")
    if path.is_file():
        return _only(path, _on_disk(path, path.parent, NAMED_FORMATS))
    if (path / MANIFEST).exists():
        return _of_events(path)
    if (path / PREPARED_ARRAY).exists():
        raise UnusablePath(f"{path} holds prepared clicks. Give it as --prepared.")
    return _some_of_folder(path, _of_folder(path, path))


def _of_pattern(pattern: Path) -> list[FoundFile]:
    """Return the files that match, and those of matching folders."""
    root = Path(*takewhile(lambda part: not _is_wild(part), pattern.parts))
    files: list[FoundFile] = []
    try:
        paths = list(root.glob(str(pattern.relative_to(root))))
    except ValueError as wrong:
        raise UnusablePath(f"{pattern}: {wrong}.") from wrong
    for path in paths:
        if _is_hidden(path.relative_to(root).parts):
            continue
        if path.is_dir():
            files += _of_folder(path, root)
        elif (file := _on_disk(path, root, _named_by(pattern.name))) is not None:
            files.append(file)
    return _some_that_match(pattern, files)


def _of_events(path: Path) -> list[FoundFile]:
    """Return the files of the clicks of an events folder."""
    folder = EventsFolder.open(path)
    deletions = Deletions.of(folder)
    files = []
    for file in folder.files(CLICKS):
        found = _on_disk(file.path, path)
        if found is not None:
            concerned = deletions if deletions.concern(file) else None
            files.append(replace(found, partition=(), deletions=concerned))
    if not files:
        raise BadInput(
            "The events folder cannot be used",
            [f"{path} holds no click. Run recsys collect while the service writes feedback."],
        )
    return files


def _of_folder(folder: Path, root: Path) -> list[FoundFile]:
    """Return the files of a folder, and those of its subfolders that are Hive partitions."""
    files: list[FoundFile] = []
    for path in folder.iterdir():
        if path.is_dir() and _is_partition(path.name):
            files += _of_folder(path, root)
        elif (file := _on_disk(path, root)) is not None:
            files.append(file)
    return files


def _on_disk(path: Path, root: Path, named: Collection[str] = ()) -> FoundFile | None:
    """Return the file, or None where it is none of ours; named: endings read beside `FORMATS`."""
    try:
        state = path.stat()
    except FileNotFoundError:  # a link to nothing
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    name = path.relative_to(root).as_posix()
    return _found(path, name, FileState(state.st_size, state.st_mtime_ns), named)


def _of_url(url: Url) -> list[FoundFile]:
    try:
        state = state_of(url)
    except MissingObject:
        if _is_wild(url.text):
            return _of_url_pattern(url)
        raise
    if state is not None:
        return _only(url, _found(url, PurePosixPath(url.text).name, state, NAMED_FORMATS))
    return _some_of_folder(
        url, _below(url, lambda parts: all(_is_partition(part) for part in parts[:-1]))
    )


def _of_url_pattern(pattern: Url) -> list[FoundFile]:
    """Return the files that match, and those of matching folders."""
    parts = pattern.text.split("/")
    known = list(takewhile(lambda part: not _is_wild(part), parts))
    matches = pattern_of("/".join(parts[len(known) :])).match

    def is_wanted(parts: list[str]) -> bool:
        return any(
            matches("/".join(parts[:end])) and all(_is_partition(part) for part in parts[end:-1])
            for end in range(1, len(parts) + 1)
        )

    root, named = Url("/".join(known)), _named_by(parts[-1])
    return _some_that_match(pattern, _below(root, is_wanted, named))


def _below(
    root: Url, is_wanted: Callable[[list[str]], bool], named: Collection[str] = ()
) -> list[FoundFile]:
    """Return the files below a folder whose path, in parts, is wanted and not hidden."""
    found = [
        _found(root.below(name), name, state, named)
        for name, state in list_folder(root)
        if not _is_hidden(parts := name.split("/")) and is_wanted(parts)
    ]
    return [file for file in found if file is not None]


def _found(
    path: Path | Url, name: str, state: FileState, named: Collection[str] = ()
) -> FoundFile | None:
    """Return the file, or None where its name is none of ours."""
    below = PurePosixPath(name)
    ending, compression = _ending_of(below)
    known = ending in named or (
        ending in FORMATS and not (compression is not None and FORMATS[ending] == "parquet")
    )
    if not known or below.name.startswith("."):
        return None
    pairs = [part.partition("=") for part in below.parent.parts if "=" in part]
    partition = tuple((unquote(key), unquote(value)) for key, _, value in pairs)
    return FoundFile(path, name, ending, state, compression, partition)


def _ending_of(name: PurePosixPath) -> tuple[str, str | None]:
    """Return the ending without that of a compression, and the compression."""
    compression = COMPRESSIONS.get(name.suffix)
    return (name.with_suffix("") if compression is not None else name).suffix, compression


def _named_by(pattern: str) -> list[str]:
    """Return the ending of a pattern, if only files that are named by it are read."""
    ending, _ = _ending_of(PurePosixPath(pattern))
    return [ending] if ending in NAMED_FORMATS else []


def _only(path: Path | Url, file: FoundFile | None) -> list[FoundFile]:
    if file is None:
        ending = PurePosixPath(str(path)).suffix
        raise UnusablePath(f"{path} ends in {ending!r}. Give a file that ends in {endings()}.")
    return [file]


def _some_of_folder(folder: Path | Url, files: list[FoundFile]) -> list[FoundFile]:
    if not files:
        raise UnusablePath(f"{folder} holds no file that ends in {endings()}.")
    return files


def _some_that_match(pattern: Path | Url, files: list[FoundFile]) -> list[FoundFile]:
    if not files:
        raise UnusablePath(f"{pattern} matches no file that ends in {endings()}.")
    return files


def _is_wild(text: str) -> bool:
    return any(sign in text for sign in WILDCARDS)


def _is_hidden(parts: Sequence[str]) -> bool:
    """Return whether a shell passes over a path, or over a folder on its way."""
    return any(part.startswith(".") for part in parts)


def _is_partition(folder: str) -> bool:
    return "=" in folder and not folder.startswith(".")
