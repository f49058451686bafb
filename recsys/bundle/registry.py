"""The model registry: a folder of bundles, and a file that names the current version.

    registry/current            the name of the bundle that is served
    registry/experiments.jsonl  when experiments ran, see experiment_log.py
    registry/20260101-120000/   a bundle
    registry/20260102-120000/   the next one

While an experiment runs, the file `current` has more lines: the id of the experiment, and for each
variant its name and the ranges of users in percent that get it.

    20260101-120000
    experiment 20260103-090000-5f3a1c
    20260102-120000 0-10

The file `current` is replaced in one step, so a reader finds the old content or the new one. It
holds names and no paths: write access to it chooses among the bundles of the registry and no
others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recsys.bundle.experiment import Experiment, new_experiment
from recsys.bundle.experiment_log import ShareChange, log_change
from recsys.bundle.layout import MANIFEST
from recsys.errors import BadInput, BundleRefused
from recsys.fileio import replace_file

CURRENT_VERSION = "current"
UNFINISHED = ".unfinished"  # ends the name of the folder of a training run that is not done
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MAX_CURRENT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Published:
    """Content of the file `current`: the main version and, if one runs, the experiment."""

    main: str
    experiment: Experiment | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of every version in percent, of the main version first."""
        variants = self.experiment.shares if self.experiment is not None else {}
        return {self.main: round(100 - sum(variants.values()), 2), **variants}

    def to_text(self) -> str:
        """Return the content of the file."""
        lines = [self.main, *(self.experiment.lines() if self.experiment is not None else ())]
        return "\n".join(lines) + "\n"

    @classmethod
    def of_text(cls, text: str) -> "Published":
        """Read the content of the file; raise `ValueError` where it describes no experiment."""
        main, *lines = [line.strip() for line in text.strip().split("\n")]
        if not main:
            raise ValueError("it names no bundle")
        experiment = Experiment.of_lines(lines) if lines else None
        if experiment is not None and main in experiment.ranges:
            raise ValueError(f"{main} is the main version and a variant of it")
        return cls(main, experiment)


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
    return bundle_path(folder, read_current(folder).main)


def read_current(registry: Path) -> Published:
    """Return what a registry serves.

    Raises:
        BundleRefused: the file `current` holds no name of a bundle, or no valid experiment.
    """
    current = registry / CURRENT_VERSION
    try:
        with current.open("rb") as file:
            published = Published.of_text(file.read(MAX_CURRENT_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleRefused(
            f"{current} is not readable ({error}). Write it anew with recsys publish."
        ) from error
    for name in published.shares:
        bundle_path(registry, name)
    return published


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


def publish(
    registry: Path,
    name: str,
    shares: Mapping[str, float] | None = None,
    now: datetime | None = None,
) -> Published:
    """Make this bundle of the registry the current version, for all users or for the rest of them.

    Without shares an experiment ends. With shares, an experiment with this main version and one of
    these variants goes on with these shares, else a new one begins.

    Args:
        registry: The folder; also the log of experiments is written there.
        name: The main version.
        shares: Variant → share of the users in percent, checked by `read_shares`.
        now: Time of the change; None is the current time.

    Raises:
        BadInput: the registry is a bundle itself, or has no bundle of one of the names.
        BundleRefused: a name is not a plain name.
    """
    check_not_a_bundle(registry)
    for each in (name, *(shares or ())):
        bundle = bundle_path(registry, each)
        if not (bundle / MANIFEST).is_file():
            raise BadInput(
                f"{each!r} cannot be published",
                [f"{bundle} holds no bundle. Train or save one there first."],
            )
    now = now or datetime.now(UTC)
    before = _running_experiment(registry)
    published = Published(name)
    if shares:
        goes_on = before is not None and before.main == name and before.shares.keys() & shares
        old = before.experiment if before is not None and goes_on else None
        new = new_experiment(shares, now) if old is None else old.with_shares(shares)
        published = Published(name, new)
    text = published.to_text()
    replace_file(registry / CURRENT_VERSION, lambda path: path.write_text(text, encoding="utf-8"))
    _log_experiments(registry, before, published, now)
    return published


def _running_experiment(registry: Path) -> Published | None:
    """Return what is served if an experiment runs; a file that cannot be read names none."""
    try:
        published = read_current(registry) if is_registry(registry) else None
    except BundleRefused:
        return None
    return published if published is not None and published.experiment is not None else None


def _log_experiments(
    registry: Path, before: Published | None, published: Published, now: datetime
) -> None:
    """Log the end of the experiment before this publication, and the shares from now on."""
    old = None if before is None else before.experiment
    new, time = published.experiment, now.timestamp()
    if before is not None and old is not None and (new is None or new.id != old.id):
        log_change(registry, ShareChange(time, old.id, before.main, {}))
    if new is not None:
        log_change(registry, ShareChange(time, new.id, published.main, published.shares))


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
