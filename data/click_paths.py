"""Click files of a path: a file, a folder, a folder of Hive partitions, or a pattern.

The order of the files is that of their paths; it decides the order of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from recsys.errors import BadInput

FORMATS = {
    ".csv": "text",
    ".tsv": "text",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # of text and of JSON lines
WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file with its format, and the columns that Hive partitions give all of its rows.

    name: path below the folder, without what all files of a log share; ending: without that of the
    compression.
    """

    path: Path
    name: str
    ending: str
    compression: str | None = None
    partition: Sequence[tuple[str, str]] = ()

    @property
    def format(self) -> str:
        """Return text, json or parquet."""
        return FORMATS[self.ending]


def find_files(path: Path) -> list[FoundFile]:
    """Return the click files of a path in order; raise `BadInput` where there is none."""
    if not path.exists() and _is_wild(str(path)):
        return _of_pattern(path)
    if not path.exists():
        raise BadInput("The click file cannot be used", [f"{path} does not exist."])
    if not path.is_file() and not path.is_dir():
        raise BadInput("The click file cannot be used", [f"{path} is neither file nor folder."])
    if path.is_file():
        file = _found(path, path.parent)
        if file is None:
            raise BadInput(
                "The click file cannot be used",
                [f"{path} ends in {path.suffix!r}. Give a file that ends in {endings()}."],
            )
        return [file]
    files = _of_folder(path, path)
    if not files:
        raise BadInput(
            "The click folder cannot be used", [f"{path} holds no file that ends in {endings()}."]
        )
    return files


def endings() -> str:
    """Return the endings of click files, for a message."""
    return f"{', '.join(FORMATS)}, all but .parquet also with {' or '.join(COMPRESSIONS)}"


def _of_pattern(pattern: Path) -> list[FoundFile]:
    """Return the files that match, and those of matching folders."""
    root = Path(*takewhile(lambda part: not _is_wild(part), pattern.parts))
    files: list[FoundFile] = []
    try:
        paths = list(root.glob(str(pattern.relative_to(root))))
    except ValueError as wrong:
        raise BadInput("The click files cannot be used", [f"{pattern}: {wrong}."]) from wrong
    for path in paths:
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # hidden, as for a shell
        if path.is_dir():
            files += _of_folder(path, root)
        elif (file := _found(path, root)) is not None:
            files.append(file)
    if not files:
        raise BadInput(
            "The click files cannot be used",
            [f"{pattern} matches no file that ends in {endings()}."],
        )
    return sorted(dict.fromkeys(files), key=lambda file: file.path)


def _is_wild(text: str) -> bool:
    return any(sign in text for sign in WILDCARDS)


def _of_folder(folder: Path, root: Path) -> list[FoundFile]:
    """Return the files of a folder, and those of its subfolders that are Hive partitions."""
    files: list[FoundFile] = []
    for path in folder.iterdir():
        if path.is_dir() and "=" in path.name and not path.name.startswith("."):
            files += _of_folder(path, root)
        elif (file := _found(path, root)) is not None:
            files.append(file)
    return sorted(files, key=lambda file: file.path)


def _found(path: Path, root: Path) -> FoundFile | None:
    """Return the file, or None where it is none of ours."""
    compression = COMPRESSIONS.get(path.suffix)
    ending = path.with_suffix("").suffix if compression is not None else path.suffix
    known = ending in FORMATS and not (compression is not None and FORMATS[ending] == "parquet")
    if not known or path.name.startswith(".") or not path.is_file():
        return None
    below = path.relative_to(root)
    pairs = [part.partition("=") for part in below.parent.parts if "=" in part]
    partition = tuple((unquote(key), unquote(value)) for key, _, value in pairs)
    return FoundFile(path, below.as_posix(), ending, compression, partition)
