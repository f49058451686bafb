"""Manifest of a prepared folder: its origin, the counts of each step, digests of its files.

The manifest has a digest of itself, so that damage to it is found like damage to an array. A
version of the format is read by the code of that version alone: an older program must not pass over
what a newer one has written. The version also rises when the same clicks give other sessions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data.bad_rows import NO_SKIPPED, SkippedRows
from data.click_options import ClickOptions
from data.clicks import Duplicates
from data.prepared.arrays import PartSize
from data.sessions import SessionCounts
from data.sources.click_paths import find_files
from recsys.errors import BadInput

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
CATALOGUE = "catalogue.parquet"
PREPARE_ANEW = "Prepare the clicks anew with recsys prepare."
UNSHAPING = ("path", "skipped_rows")  # options that shape no session
UNUSABLE = "The prepared clicks cannot be used"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One click file as it was when it was prepared.

    Size and time of change tell whether it has changed since, as for make and rsync: a digest would
    read the whole log again to find that there is nothing to do. A copy that does not keep the time
    is prepared once more, which costs time but no correctness. An object of a store has its ETag
    instead of the time.
    """

    name: str
    bytes: int
    modified_ns: int
    etag: str | None = None


@dataclass(frozen=True)
class Origin:
    """Options and click files that a folder is made of; equal origins give equal folders."""

    options: Mapping[str, object]
    sources: Sequence[SourceFile]

    @classmethod
    def of(cls, options: ClickOptions) -> "Origin":
        """Return the origin of these clicks as they are now; raise `BadInput`."""
        files = find_files(options.path)
        shaping = {
            f.name: getattr(options, f.name) for f in fields(options) if f.name not in UNSHAPING
        }
        return cls(
            {**shaping, "events": list(options.events)},
            [SourceFile(file.name, **asdict(file.state)) for file in files],
        )

    def differences(self, other: "Origin") -> list[str]:
        """Return a sentence for each option and each file that differs from the other origin."""
        before = {f.name: f.default for f in fields(ClickOptions)} | {"events": []}
        before |= other.options  # a folder of before an option has its default
        found = [
            f"{name} was {before.get(name)!r} and is {value!r}."
            for name, value in self.options.items()
            if value != before.get(name)
        ]
        new, old = ({source.name: source for source in o.sources} for o in (self, other))
        for name in sorted(new.keys() | old.keys()):
            if name not in old:
                found.append(f"{name} is new.")
            elif name not in new:
                found.append(f"{name} is gone.")
            elif new[name] != old[name]:
                found.append(f"{name} has changed.")
        return found


@dataclass(frozen=True)
class PreparedManifest:
    """Contents of `manifest.json`, without its version and its digest."""

    origin: Origin
    counts: Sequence[SessionCounts]
    duplicates: Duplicates
    cut_off: str
    items: int  # rows of the catalogue
    labelled: bool  # a column split the log
    parts: Mapping[str, PartSize]  # train, test and perhaps valid
    event_types: Sequence[str] = ()  # none where types do not count
    skipped: SkippedRows = NO_SKIPPED
    files: Mapping[str, str] = field(default_factory=dict)  # name → SHA-256

    def expected_sizes(self) -> dict[str, int]:
        """Return the bytes of each file of arrays."""
        sizes = [size.file_sizes(part) for part, size in self.parts.items()]
        return {name: count for files in sizes for name, count in files.items()}

    def write(self, folder: Path) -> None:
        """Write the file; equal manifests give equal bytes."""
        values = {"format_version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps({**values, "digest": _digest(values)}, indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> PreparedManifest:
    """Read the manifest of a prepared folder; raise `BadInput` where it is not one of ours."""
    path = folder / MANIFEST
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise BadInput(UNUSABLE, [f"{folder} {kind}. Name a folder that recsys prepare wrote."])
    if not path.is_file():
        raise BadInput(
            UNUSABLE,
            [f"{folder} has no {MANIFEST}. Name a folder that recsys prepare wrote to its end."],
        )
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as broken:
        raise BadInput(UNUSABLE, [f"{path} is damaged ({broken}). {PREPARE_ANEW}"]) from broken
    if not isinstance(values, dict) or "format_version" not in values or "digest" not in values:
        raise BadInput(
            UNUSABLE, [f"{path} is no manifest of prepared clicks. Name another folder."]
        )
    version, digest = values.pop("format_version"), values.pop("digest")
    if version != FORMAT_VERSION:
        raise BadInput(
            UNUSABLE,
            [
                f"{path} has format version {version!r}; this program reads version "
                f"{FORMAT_VERSION}. {PREPARE_ANEW}"
            ],
        )
    if digest != _digest({"format_version": version, **values}):
        raise BadInput(
            UNUSABLE, [f"{path} is damaged: its digest does not fit its values. {PREPARE_ANEW}"]
        )
    try:
        return _parsed(values)
    except (TypeError, KeyError, AttributeError) as wrong:
        raise BadInput(
            UNUSABLE, [f"{path} lacks or misuses a field ({wrong}). {PREPARE_ANEW}"]
        ) from wrong


def _parsed(values: dict[str, Any]) -> PreparedManifest:
    """Return the manifest; a field that is missing or unknown is a `TypeError` or a `KeyError`."""
    origin = values["origin"]
    sources = [SourceFile(**source) for source in origin["sources"]]
    made = {
        "origin": Origin(**{**origin, "sources": sources}),
        "counts": [SessionCounts(**count) for count in values["counts"]],
        "duplicates": Duplicates(**values["duplicates"]),
        "event_types": tuple(values["event_types"]),
        "skipped": SkippedRows(**values.get("skipped", {})),
        "parts": {part: PartSize(**size) for part, size in values["parts"].items()},
    }
    return PreparedManifest(**{**values, **made})


def _digest(values: Mapping[str, object]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
