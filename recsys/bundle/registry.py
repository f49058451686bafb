"""The model registry: a folder of bundles, and a file that names the current version.

    registry/current          one line: the name of the bundle that is served
    registry/20260101-120000/ a bundle
    registry/20260102-120000/ the next one

The file `current` is replaced in one step, so a reader finds the old name or the new one. It holds
a name and no path: write access to it chooses among the bundles of the registry and no others.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from recsys.bundle.layout import MANIFEST
from recsys.errors import BadInput, BundleRefused
from recsys.fileio import replace_file

CURRENT_VERSION = "current"
UNFINISHED = ".unfinished"  # ends the name of the folder of a training run that is not done
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MAX_NAME_BYTES = 256


def is_registry(folder: Path) -> bool:
    """Return whether the folder is no bundle and names a current version."""
    return not (folder / MANIFEST).exists() and (folder / CURRENT_VERSION).exists()


def resolve_bundle(folder: Path) -> Path:
    """Return the folder itself or, of a model registry, its current version.

    Raises:
        BundleRefused: the registry's file `current` holds no name of a bundle.
    """
    if not is_registry(folder):
        return folder
    current = folder / CURRENT_VERSION
    try:
        with current.open("rb") as file:
            name = file.read(MAX_NAME_BYTES).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{current} is not readable ({error}).") from error
    return bundle_path(folder, name)


def bundle_path(registry: Path, name: str) -> Path:
    """Return the folder of a bundle; raise `BundleRefused` where `name` is not a plain name."""
    if not NAME.fullmatch(name) or name == CURRENT_VERSION:
        raise BundleRefused(
            f"{name!r} is not the name of a bundle in {registry}. Give the name of a folder in it."
        )
    return registry / name


def list_bundles(registry: Path) -> list[str]:
    """Return the names of all bundles, sorted; names that training gives sort by time."""
    return sorted(
        folder.name
        for folder in registry.iterdir()
        if NAME.fullmatch(folder.name) and (folder / MANIFEST).is_file()
    )


def publish(registry: Path, name: str) -> None:
    """Make this bundle of the registry the current version.

    Raises:
        BadInput: the registry is a bundle itself, or has no bundle of that name.
        BundleRefused: `name` is not a plain name.
    """
    check_not_a_bundle(registry)
    bundle = bundle_path(registry, name)
    if not (bundle / MANIFEST).is_file():
        raise BadInput(
            f"{name!r} cannot be published",
            [f"{bundle} holds no bundle. Train or save one there first."],
        )
    replace_file(
        registry / CURRENT_VERSION, lambda path: path.write_text(f"{name}\n", encoding="utf-8")
    )


def output_folder(out: Path | None, registry: Path | None, *, resume: bool = False) -> Path:
    """Return the folder for a new bundle: `out`, or the next one of the registry.

    Raises:
        BadInput: neither is given, both are given, or the registry is a bundle.
    """
    if (out is None) == (registry is None):
        raise BadInput(
            "The bundle has no destination",
            ["give --out FOLDER, or --publish REGISTRY, and not both."],
        )
    if out is not None:
        return out.resolve()
    assert registry is not None, "one of them is given"
    check_not_a_bundle(registry)
    return next_bundle(registry.resolve(), datetime.now(UTC), resume=resume)


def check_not_a_bundle(folder: Path) -> None:
    """Raise `BadInput` where a bundle is given as a registry: no service would follow it."""
    if (folder / MANIFEST).exists():
        raise BadInput(
            "The bundle cannot be published there",
            [
                f"{folder} is a bundle, not a model registry. Name a new folder, or the registry "
                "that recsys serve --bundle is given."
            ],
        )


def next_bundle(registry: Path, now: datetime, *, resume: bool = False) -> Path:
    """Return a folder named by the time or, with `resume`, that of the last unfinished run."""
    if resume:
        unfinished = sorted(registry.glob(f"*{UNFINISHED}"))
        if unfinished:
            return unfinished[-1].with_name(unfinished[-1].name.removesuffix(UNFINISHED))
    return registry / now.strftime("%Y%m%d-%H%M%S")
