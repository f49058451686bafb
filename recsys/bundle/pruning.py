"""Removal of old bundles from a model registry."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from recsys.bundle.registry import list_bundles, read_current
from recsys.fileio import unwritable

GIVEN_NAME = re.compile(r"\d{8}-\d{6}")  # by a training: the time, so that names sort by it


def prune(registry: Path, keep: int, needed: Collection[str], trash: Path) -> list[str]:
    """Remove the oldest bundles until at most `keep` are left; return their names.

    Only bundles that a training has named by the time are removed, and only those before the
    current version; where that has another name, none is. Bundles that are published or needed
    stay, so that more may be left. A bundle is renamed to `trash` before its files are removed, so
    it never loses a part of them under its name.

    Args:
        registry: The folder.
        keep: Number of bundles.
        needed: Names of bundles that stay.
        trash: A folder on the same file system, which does not exist.

    Raises:
        BadInput: A bundle cannot be removed.
        BundleRefused: The file `current` cannot be read.
    """
    names, published = list_bundles(registry), read_current(registry)
    if not GIVEN_NAME.fullmatch(published.main):
        return []  # its name does not say which bundles are older
    removable = [
        name
        for name in names
        if GIVEN_NAME.fullmatch(name)
        and name not in {*needed, *published.shares}
        and name < published.main
    ]
    removed = removable[: max(len(names) - keep, 0)]
    for name in removed:
        try:
            (registry / name).rename(trash)
            shutil.rmtree(trash)
        except OSError as failed:
            raise unwritable(registry / name, failed) from failed
    return removed
