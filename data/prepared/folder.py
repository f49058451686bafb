"""Writing and opening of a prepared folder; opening what was written gives equal sessions."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.click_options import ClickOptions
from data.files import Progress
from data.prepare import FIRST_ITEMS, Prepared, Remark, prepare, warnings_of
from data.prepared.arrays import TYPES, open_sessions, write_sessions
from data.prepared.manifest import (
    CATALOGUE,
    MANIFEST,
    PREPARE_ANEW,
    UNUSABLE,
    Origin,
    PreparedManifest,
    read_manifest,
)
from recsys.errors import BadInput

ITEM_COLUMN = "item_id"  # of the catalogue


@dataclass(frozen=True)
class PreparedFolder:
    """A prepared folder whose manifest has been read; its arrays are opened later."""

    path: Path
    manifest: PreparedManifest

    @classmethod
    def at(cls, path: Path) -> "PreparedFolder":
        """Return the folder at this path; raise `BadInput` where there is none of ours."""
        return cls(path, read_manifest(path))

    @property
    def options(self) -> ClickOptions:
        """Options that the clicks were read with; their path is the folder."""
        values: dict[str, Any] = dict(self.manifest.origin.options)
        try:
            return ClickOptions(self.path, **{**values, "events": tuple(values["events"])})
        except (TypeError, KeyError) as wrong:
            raise BadInput(
                UNUSABLE, [f"{self.path / MANIFEST} has unknown options ({wrong}). {PREPARE_ANEW}"]
            ) from wrong

    def open(self, progress: Progress | None = None) -> Prepared:
        """Check every file, then map the arrays into memory, read-only.

        The check reads the files once. Afterwards the system loads what is used and drops it when
        memory is needed.

        Raises:
            BadInput: A file is missing, truncated or changed.
        """
        self.check_sizes()
        self._check_digests(progress)
        manifest = self.manifest
        item_ids = _read_catalogue(self.path / CATALOGUE)
        parts = {
            part: open_sessions(
                self.path,
                part,
                size,
                item_ids,
                tuple(manifest.event_types),
                labelled=manifest.labelled,
            )
            for part, size in manifest.parts.items()
        }
        return Prepared(
            train=parts["train"],
            test=parts["test"],
            valid=parts.get("valid"),
            counts=manifest.counts,
            duplicates=manifest.duplicates,
            skipped=manifest.skipped,
        )

    @property
    def warnings(self) -> list[Remark]:
        """Return what is odd in the log; of the arrays, training times alone are read."""
        times = np.memmap(self.path / "train.times.i64", TYPES["times.i64"], "r")
        with pq.ParquetFile(self.path / CATALOGUE) as file:
            first = next(file.iter_batches(FIRST_ITEMS))[ITEM_COLUMN].to_pylist()
        return warnings_of(self.manifest.duplicates, self.manifest.skipped, times, first)

    def check_sizes(self) -> None:
        """Raise `BadInput` where a file is missing, or longer or shorter than it was written."""
        sizes, named = self.manifest.expected_sizes(), self.manifest.files
        if {*sizes, CATALOGUE} != set(named) or not {"train", "test"} <= set(self.manifest.parts):
            raise BadInput(
                UNUSABLE,
                [
                    f"{self.path / MANIFEST} names the files {sorted(named)}, not "
                    f"{sorted({*sizes, CATALOGUE})}. {PREPARE_ANEW}"
                ],
            )
        problems = []
        for name in named:
            path = self.path / name
            if not path.is_file():
                problems.append(f"{path} is missing. {PREPARE_ANEW}")
            elif name in sizes and path.stat().st_size != sizes[name]:
                problems.append(
                    f"{path} has {path.stat().st_size:,} bytes, not {sizes[name]:,}. {PREPARE_ANEW}"
                )
        if problems:
            raise BadInput(UNUSABLE, problems)

    def _check_digests(self, progress: Progress | None) -> None:
        problems = []
        for done, (name, digest) in enumerate(self.manifest.files.items(), 1):
            if _digest_of(self.path / name) != digest:
                problems.append(
                    f"{self.path / name} is damaged: its digest differs. {PREPARE_ANEW}"
                )
            if progress is not None:
                progress(done, len(self.manifest.files))
        if problems:
            raise BadInput(UNUSABLE, problems)


ClickSource = ClickOptions | PreparedFolder  # of a command: --clicks or --prepared


def open_source(source: ClickSource, progress: Progress | None = None) -> Prepared:
    """Open a prepared folder, or prepare clicks in memory; raise `BadInput`."""
    if isinstance(source, PreparedFolder):
        return source.open(progress)
    return prepare(source, progress)


def write_prepared(folder: Path, prepared: Prepared, origin: Origin) -> None:
    """Write the sessions of a log that was read in memory into an existing folder."""
    sessions = {"train": prepared.train, "test": prepared.test}
    if prepared.valid is not None:
        sessions["valid"] = prepared.valid
    parts = {part: write_sessions(folder, part, one) for part, one in sessions.items()}
    write_catalogue(folder, pa.array(prepared.train.item_ids, pa.string()))
    manifest = PreparedManifest(
        origin=origin,
        counts=prepared.counts,
        duplicates=prepared.duplicates,
        cut_off=prepared.cut_off,
        items=len(prepared.train.item_ids),
        labelled=prepared.train.split is not None,
        parts=parts,
        event_types=prepared.train.event_types,
        skipped=prepared.skipped,
    )
    seal(folder, manifest)


def write_catalogue(folder: Path, item_ids: pa.Array) -> None:
    """Write the ids of all items of the log, ordered by code."""
    pq.write_table(pa.table({ITEM_COLUMN: item_ids}), folder / CATALOGUE)


def seal(folder: Path, manifest: PreparedManifest) -> None:
    """Write the manifest with the digests of all other files, which it comes after."""
    names = sorted([*manifest.expected_sizes(), CATALOGUE])
    digests = {name: _digest_of(folder / name) for name in names}
    replace(manifest, files=digests).write(folder)


def _read_catalogue(path: Path) -> tuple[str, ...]:
    return tuple(pq.read_table(path)[ITEM_COLUMN].to_pylist())


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
