"""Files of object stores, by their URLs: s3://bucket/clicks.csv, gs://…; fsspec reads them.

No other module knows fsspec, and this one loads no pyarrow, so that `--help` is quick. Keys,
endpoint and region come from the environment and the files that the library of the store reads; for
S3 these are the standard ones of AWS. Each library has exceptions of its own; here they become a
`StoreError`, whose text says what to do.
"""

import io
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]*)://")
EXTRAS = {"s3": "session-recsys[s3]", "s3a": "session-recsys[s3]"}  # protocol → what to install
S3_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
COPIED_BYTES = 8 << 20  # asked for at a time
CHANGED = "It has changed since it was found. Repeat the command when nothing writes to it"


@dataclass(frozen=True, slots=True)
class Url:
    """URL of a file, a folder or a pattern in a store."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def protocol(self) -> str:
        """Return what comes before ://."""
        return self.text.partition("://")[0]

    def below(self, name: str) -> "Url":
        """Return the URL of a name below this folder."""
        return Url(f"{self.text.rstrip('/')}/{name}")


@dataclass(frozen=True, slots=True)
class FileState:
    """Size of a file, and what tells whether its content has changed: an ETag, or else the time."""

    bytes: int
    modified_ns: int = 0  # where there is no ETag
    etag: str | None = None


class StoreError(OSError):
    """A store cannot give what was asked for; the text says why and what to do."""


class MissingObject(StoreError):
    """There is no such object and no such folder."""


def as_location(text: str | Path) -> Path | Url:
    """Return a path, or the URL that the text is."""
    if isinstance(text, Path) or PROTOCOL.match(text) is None:
        return Path(text)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else Url(text)


def state_of(url: Url) -> FileState | None:
    """Return the state of a file, or None for a folder; raise `StoreError`."""
    with _explained(url):
        store, path = _store_of(url)
        info = store.info(path)
        return None if info["type"] == "directory" else _state(store, info)


def list_folder(folder: Url) -> list[tuple[str, FileState]]:
    """Return the files of a folder and of all folders in it, by their names below it."""
    with _explained(folder):
        store, path = _store_of(folder)
        found = store.find(path, detail=True)
        return [
            (_below(path, name), _state(store, info))
            for name, info in found.items()
            if info["type"] == "file" and not name.endswith("/")  # as which S3 shows empty folders
        ]


def pattern_of(text: str) -> re.Pattern[str]:
    """Return the expression of a pattern of names, in which ** stands for any folders.

    Raises:
        StoreError: ** is a part of a name.
    """
    from fsspec.utils import glob_translate

    try:
        return re.compile(glob_translate(text))
    except ValueError as wrong:
        raise StoreError(_text(wrong)) from wrong


@contextmanager
def open_object(
    url: Url, state: FileState, ahead_bytes: int | None = None
) -> Iterator["pa.PythonFile"]:
    """Open a file as it was found, to be read at any place; raise `StoreError` if it has changed.

    No reading thread of pyarrow may use it: one that calls Python while Python exits ends in a
    crash. ahead_bytes: read so many more than asked for.
    """
    import pyarrow as pa

    with _explained(url):
        store, path = _store_of(url)
        cache = "none" if ahead_bytes is None else "readahead"
        file = store.open(path, "rb", cache_type=cache, block_size=ahead_bytes)
    with file:
        with _explained(url):  # a file of S3 asks for the bytes of this ETag from here on
            _check(store, getattr(file, "details", None) or store.info(path), state)
        with pa.PythonFile(_ExplainedFile(file, url), mode="r") as opened:
            yield opened


@contextmanager
def open_copy(url: Url, state: FileState) -> Iterator["pa.NativeFile"]:
    """Copy a file to the folder for temporary files, and open the copy, which has no name there.

    Raises:
        StoreError: The file has changed.
        OSError: The copy cannot be written.
    """
    import pyarrow as pa

    with ExitStack() as stack:
        try:
            copy = stack.enter_context(TemporaryFile())
            with open_object(url, state) as original:
                shutil.copyfileobj(original, copy, COPIED_BYTES)
            copy.seek(0)
        except StoreError:
            raise
        except OSError as failed:
            raise OSError(
                f"{failed}: its copy cannot be written to {gettempdir()}. Name another folder with "
                "TMPDIR"
            ) from failed
        yield stack.enter_context(pa.OSFile(f"/dev/fd/{copy.fileno()}"))


def check_unchanged(url: Url, state: FileState) -> None:
    """Raise `StoreError` where the file is no longer as it was found."""
    with _explained(url):
        store, path = _store_of(url)
        _check(store, store.info(path), state)


class _ExplainedFile(io.RawIOBase):
    """Opened file of a store whose failures are `StoreError`s."""

    def __init__(self, file: Any, url: Url) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with _explained(self._url):
            return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _store_of(url: Url) -> tuple[Any, str]:
    """Return the file system of fsspec, which remembers no listing, and the path in it."""
    from fsspec.core import url_to_fs

    store, path = url_to_fs(url.text, use_listings_cache=False)
    return store, path


def _state(store: Any, info: Mapping[str, Any]) -> FileState:
    """Return the state that a store reports."""
    etag = info.get("ETag") or info.get("etag")
    try:
        if etag:
            return FileState(int(info["size"]), etag=str(etag))
        changed = store.modified(info["name"])
        return FileState(int(info["size"]), modified_ns=int(changed.timestamp() * 1e9))
    except (NotImplementedError, TypeError) as silent:
        raise StoreError(
            f"The store does not report the size, and an ETag or the time of change, of "
            f"{info['name']}. Copy the files to a disk or to another store"
        ) from silent


def _check(store: Any, info: Mapping[str, Any], state: FileState) -> None:
    if _state(store, info) != state:
        raise StoreError(CHANGED)


def _below(folder: str, name: str) -> str:
    return name.removeprefix(folder.rstrip("/") + "/")


@contextmanager
def _explained(url: Url) -> Iterator[None]:
    """Turn the exceptions of all stores into `StoreError`s."""
    s3 = url.protocol in EXTRAS
    try:
        yield
    except StoreError:
        raise
    except ImportError as missing:
        install = f". Install {EXTRAS[url.protocol]}" if s3 else ""
        raise StoreError(f"A package is missing ({_text(missing)}){install}") from missing
    except FileNotFoundError as missing:
        where = "bucket and path, and AWS_ENDPOINT_URL" if s3 else "the URL"
        raise MissingObject(f"It does not exist ({_text(missing)}). Check {where}") from missing
    except PermissionError as refused:
        keys = S3_KEYS if s3 else "Check the credentials of the store"
        raise StoreError(f"Access is refused ({_text(refused)}). {keys}") from refused
    except ValueError as wrong:
        raise StoreError(f"The URL cannot be used ({_text(wrong)})") from wrong
    except Exception as failed:  # of the library of the store
        name = type(failed).__name__
        if name == "FileExpired":  # s3fs: the object has another ETag
            raise StoreError(CHANGED) from failed
        if "Credentials" in name or "Profile" in name:
            advice = S3_KEYS
        else:
            advice = f"Check {'AWS_ENDPOINT_URL, AWS_REGION' if s3 else 'the URL'} and the network"
        raise StoreError(f"{name}: {_text(failed)}. {advice}") from failed


def _text(failed: Exception) -> str:
    return str(failed).strip().rstrip(".").replace("\n", " ")
