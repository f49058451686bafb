"""Atomic writing of files and folders.

A file is written beside its destination and renamed into place, so a crash, a full disk or Ctrl-C
leaves the previous content.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from recsys.errors import BadInput


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path`, then rename that file; raise `BadInput`."""
    # a random name, because another process may write the same file
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.writing")
    try:
        write(beside)
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as failed:
        raise unwritable(path, failed) from failed
    finally:
        beside.unlink(missing_ok=True)


def make_folders(path: Path) -> None:
    """Make a folder with its parents, so that a power cut does not lose them; raise `BadInput`."""
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in missing:
            _sync(each.parent)
    except OSError as failed:
        raise unwritable(path, failed) from failed


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes `path` when the block succeeds and is removed otherwise.

    An empty folder at `path` is replaced; the caller refuses anything else before.
    """
    beside = path.with_name(f".{path.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        for file in beside.iterdir():
            # safetensors gives its files to the owner alone; readers of the folder may read them
            file.chmod(beside.stat().st_mode & 0o666)
            _sync(file)
        beside.replace(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as failed:
        raise unwritable(path, failed) from failed
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_new_folder(path: Path, what: str) -> None:
    """Refuse, before any work, an output folder that exists with files in it or cannot be made."""
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise BadInput(
                f"{what} cannot be written",
                [f"{path} exists and is not an empty folder. Name a new one, or delete it."],
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _probe(path)
    except OSError as failed:
        raise unwritable(path, failed) from failed


def check_new_file(path: Path, what: str) -> None:
    """Refuse, before any work, an output file that is a folder or cannot be made."""
    if path.is_dir():
        raise BadInput(f"{what} cannot be written", [f"{path} is a folder. Name a file in it."])
    try:
        _probe(path)
    except OSError as failed:
        raise unwritable(path, failed) from failed


@contextmanager
def locked_folder(path: Path, in_use: BadInput) -> Iterator[None]:
    """Hold the lock on a folder; it ends with the process that has it.

    Args:
        path: A folder that exists.
        in_use: Raised where another process has the lock.

    Raises:
        BadInput: `in_use`, or the folder cannot be opened.
    """
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError as failed:
        raise unwritable(path, failed) from failed
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise in_use from None
        yield
    finally:
        os.close(lock)


def _probe(path: Path) -> None:
    """Raise `OSError` where no file can be written beside `path`."""
    probe = path.with_name(f".{path.name}.probe")
    probe.write_bytes(b"")
    probe.unlink()


def unwritable(path: Path, failed: Exception) -> BadInput:
    """Return the error for a path that cannot be written."""
    known = isinstance(failed, OSError) and failed.errno
    reason = os.strerror(known) if known else str(failed).rstrip(".")
    return BadInput(
        f"{path} cannot be written",
        [f"{reason}. The previous content is kept; free space or name another folder."],
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
