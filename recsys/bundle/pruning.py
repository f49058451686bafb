"""Removal of old bundles from a model registry."""

import shutil
from collections.abc import Collection
from pathlib import Path

from recsys.bundle.registry import CURRENT_VERSION, list_bundles
from recsys.fileio import unwritable


def published_names(registry: Path) -> list[str]:
    """Return every name in the file `current`: of the version that is served, and of variants."""
    path = registry / CURRENT_VERSION
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.strip()]


def prune(registry: Path, keep: int, needed: Collection[str], trash: Path) -> list[str]:
    """Remove the oldest bundles until at most `keep` are left; return their names.

    Bundles that are published or needed stay, so that more may be left. A bundle is renamed to
    `trash` before its files are removed, so it never loses a part of them under its name.

    Args:
        registry: The folder.
        keep: Number of bundles.
        needed: Names of bundles that stay.
        trash: A folder on the same file system, which does not exist.

    Raises:
        BadInput: A bundle cannot be removed.
    """
    names, spared = list_bundles(registry), {*needed, *published_names(registry)}
    removable = [name for name in names if name not in spared]
    removed = removable[: max(len(names) - keep, 0)]
    for name in removed:
        try:
            (registry / name).rename(trash)
            shutil.rmtree(trash)
        except OSError as failed:
            raise unwritable(registry / name, failed) from failed
    return removed
