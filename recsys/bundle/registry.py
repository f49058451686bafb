"""A shelf: a folder of bundles, and a pointer that says which of them is served.

    shelf/current          one line: the name of the bundle that is served
    shelf/20260101-120000/ a bundle
    shelf/20260102-120000/ the next one

The pointer is a file that is replaced at once, so whoever reads it finds the old name or the new
one. It holds a name and no path: whoever can write it chooses among the bundles that are there.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from recsys.bundle.layout import MANIFEST
from recsys.errors import BadInput, BundleRefused
from recsys.fileio import replace_file

POINTER = "current"
UNFINISHED = ".unfinished"  # after a bundle's name: what a training run keeps until it is done
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
LONGEST_POINTER = 256  # bytes


def is_shelf(folder: Path) -> bool:
    """The folder is no bundle itself, but says which of its bundles to take."""
    return not (folder / MANIFEST).exists() and (folder / POINTER).exists()


def bundle_of(folder: Path) -> Path:
    """The folder itself or, of a shelf, the bundle that its pointer names.

    Raises `BundleRefused` where the pointer names none.
    """
    if not is_shelf(folder):
        return folder
    pointer = folder / POINTER
    try:
        with pointer.open("rb") as file:
            text = file.read(LONGEST_POINTER).decode("utf-8").strip()
    except (OSError, ValueError) as broken:
        raise BundleRefused(f"{pointer} is not readable ({broken}).") from broken
    return named(folder, text)


def named(shelf: Path, name: str) -> Path:
    """The bundle folder of that name; raises `BundleRefused` where it is no plain name."""
    if not NAME.fullmatch(name) or name == POINTER:
        raise BundleRefused(
            f"{name!r} is no name of a bundle in {shelf}. Give the name of a folder in it."
        )
    return shelf / name


def bundles_on(shelf: Path) -> list[str]:
    """Names of the folders that hold a bundle, in order: the order of time where they are ours."""
    return sorted(
        folder.name
        for folder in shelf.iterdir()
        if NAME.fullmatch(folder.name) and (folder / MANIFEST).is_file()
    )


def publish(shelf: Path, name: str) -> None:
    """Have the pointer name this bundle, which is there; raises `BadInput`, `BundleRefused`."""
    refuse_bundle(shelf)
    bundle = named(shelf, name)
    if not (bundle / MANIFEST).is_file():
        raise BadInput(
            f"{shelf} cannot name {name!r}", [f"{bundle} holds no bundle. Export one there first."]
        )
    replace_file(shelf / POINTER, lambda beside: beside.write_text(f"{name}\n", encoding="utf-8"))


def destination(out: Path | None, shelf: Path | None, *, resume: bool = False) -> Path:
    """Where a new bundle goes: a folder, or a shelf's next one; raises `BadInput` unless one is."""
    if (out is None) == (shelf is None):
        raise BadInput(
            "Where does the bundle go?", ["give --out FOLDER, or --publish SHELF, and not both."]
        )
    if out is not None:
        return out.resolve()
    assert shelf is not None, "one of them is given"
    refuse_bundle(shelf)
    return next_bundle(shelf.resolve(), datetime.now(UTC), resume=resume)


def refuse_bundle(folder: Path) -> None:
    """Raise `BadInput` where a bundle is named as the shelf: no service would follow it."""
    if (folder / MANIFEST).exists():
        raise BadInput(
            "Nothing can be published there",
            [
                f"{folder} is a bundle, not a shelf of bundles. Name a new folder, or the shelf "
                "that recsys serve --bundle is given."
            ],
        )


def next_bundle(shelf: Path, now: datetime, *, resume: bool = False) -> Path:
    """A folder for a new bundle, named by the time; with `resume`, that of the unfinished run."""
    if resume:
        unfinished = sorted(shelf.glob(f"*{UNFINISHED}"))
        if unfinished:
            return unfinished[-1].with_name(unfinished[-1].name.removesuffix(UNFINISHED))
    return shelf / now.strftime("%Y%m%d-%H%M%S")
