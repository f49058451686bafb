"""One run of `recsys prepare`: a new folder as a whole, or nothing where nothing has changed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data.click_options import ClickOptions
from data.files import Progress
from data.prepare import prepare
from data.prepared.folder import PreparedFolder, write_prepared
from data.prepared.manifest import MANIFEST, Origin
from recsys.errors import BadInput
from recsys.fileio import check_new_folder, locked_folder, new_folder

Writer = Callable[[Path, Origin], None]  # fills an empty folder


def make_folder(
    out: Path,
    options: ClickOptions,
    write: Writer,
    origin_of: Callable[[ClickOptions], Origin] = Origin.of,
) -> tuple[PreparedFolder, bool]:
    """Return the prepared folder, and whether it was written now.

    A folder of the same origin, the same files and the same options, stays as it is.

    Raises:
        BadInput: The clicks cannot be used, the folder holds something else, or another run is at
            work on it.
    """
    origin = origin_of(options)
    with _only_run(out):
        if (out / MANIFEST).exists():
            shutil.rmtree(unfinished(out), ignore_errors=True)  # killed after the last step
            return _unchanged(out, origin), False
        check_new_folder(out, "The prepared clicks")
        with new_folder(out) as folder:
            write(folder, origin)
            changed = origin_of(options).differences(origin)
            if changed:
                shutil.rmtree(unfinished(out), ignore_errors=True)
                raise BadInput("The clicks changed while they were read", changed)
        shutil.rmtree(unfinished(out), ignore_errors=True)
        return PreparedFolder.at(out), True


def unfinished(out: Path) -> Path:
    """Return the folder of work that a later run may go on with; patterns pass over its name."""
    return out.with_name(f".{out.name}.unfinished")


def in_memory(options: ClickOptions, progress: Progress | None = None) -> Writer:
    """Return the writer that reads the whole log into the memory of this process."""
    return lambda folder, origin: write_prepared(folder, prepare(options, progress), origin)


def _unchanged(out: Path, origin: Origin) -> PreparedFolder:
    found = PreparedFolder.at(out)
    found.check_sizes()
    changed = origin.differences(found.manifest.origin)
    if changed:
        advice = "Name a new folder with --out, or delete this one."
        raise BadInput(f"{out} was prepared from other clicks or options", [*changed, advice])
    return found


@contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """Hold a lock on the folder, which is made if there is none; an empty one is removed again."""
    if out.exists() and not out.is_dir():
        raise BadInput(
            "The prepared clicks cannot be written", [f"{out} is a file. Name a folder."]
        )
    out.mkdir(parents=True, exist_ok=True)
    in_use = f"it writes {out}. Wait for it, or name another --out."
    with locked_folder(out, BadInput("Another run is at work", [in_use])):
        try:
            yield
        finally:
            with suppress(OSError):  # it has files in it
                out.rmdir()
