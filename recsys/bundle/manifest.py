"""Manifest of a bundle: its fields, and the validation of a file that may hold anything."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.bundle.layout import (
    CONTENT,
    CONTENT_MODEL,
    FILES,
    INDEX,
    MANIFEST,
    NEIGHBOURS,
    OPTIONAL,
)
from recsys.errors import BundleRefused, RecsysError
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import ModelSize
from recsys.model.recent_popularity import RecentPopularitySettings
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from recsys.retrieval.candidates import IndexSettings
from recsys.retrieval.exact import EXACT_RETRIEVAL, RetrievalSettings

FORMAT_VERSION = 6
# Format 1 lacks cell, embedding and scale: `ModelSize` has their defaults. Format 2 lacks repeats.
# Format 3 lacks `normalizing` and `votes` of a blend, format 4 lacks recent popularity, format 5
# event types, the half-life of recent popularity, and content.
READABLE = (1, 2, 3, 4, 5, 6)
MAX_MANIFEST_BYTES = 1 << 20
MAX_SIZE, MAX_LAYERS, MAX_WINDOW = 1 << 31, 100, 10_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of manifest.json."""

    format_version: int
    model_id: str
    created: str  # UTC, ISO 8601
    size: ModelSize
    window: int  # clicks that a state covers
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]  # sessions, clicks, cut-off
    versions: Mapping[str, str]
    files: Mapping[str, str]  # name → sha256
    repeats: RepeatTerm | None = None  # bonus for items of the session
    blend: BlendSettings | None = None  # session neighbours beside the model
    retrieval: RetrievalSettings = EXACT_RETRIEVAL
    recent_popularity: RecentPopularitySettings | None = None  # at the end of training
    event_types: EventTypes | None = None  # of clicks; None where clicks have no type

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@contextmanager
def refuse_failures(folder: Path) -> Iterator[None]:
    """Turn any exception of the block into `BundleRefused`: a bundle may hold anything."""
    try:
        yield
    except RecsysError:
        raise
    except OSError as failed:
        what = f"{failed.filename or folder}: {failed.strerror or failed}"
        raise BundleRefused(f"{folder} cannot be read. {what}.") from failed
    except Exception as failed:
        raise BundleRefused(
            f"{folder} holds what no training writes ({type(failed).__name__}). Train it anew."
        ) from failed


def read_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest; raise `BundleRefused`."""
    with refuse_failures(folder):
        return _read_manifest(folder)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleRefused(f"There is no bundle folder {folder}. Train one, or give its path.")
    if path.exists() and (path.is_symlink() or not path.is_file()):
        raise BundleRefused(
            f"{path} is a link or not a file; a bundle holds its own files. Copy the file there."
        )
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_MANIFEST_BYTES))
    except FileNotFoundError as missing:
        raise BundleRefused(
            f"{folder} is not a bundle: it has no {MANIFEST}. Give the folder that a training or "
            "Model.save wrote, or a model registry with a current version."
        ) from missing
    except (OSError, ValueError) as broken:
        raise BundleRefused(f"{path} is not readable JSON ({broken}).") from broken
    return _manifest(path, values)


def _manifest(path: Path, values: object) -> Manifest:
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is not int or version not in READABLE:
        newer = type(version) is int and version > FORMAT_VERSION
        advice = "Upgrade session-recsys." if newer else "Train the bundle anew."
        raise BundleRefused(
            f"{path} has bundle format {version!r}; this version reads {READABLE[0]} to "
            f"{READABLE[-1]}. {advice}"
        )
    assert isinstance(values, dict)
    try:
        parts = {
            "size": ModelSize(**values["size"]),
            "repeats": _repeat_term(values.get("repeats")),
            "blend": _blend_settings(values.get("blend")),
            "retrieval": _retrieval_settings(values.get("retrieval", {})),
            "recent_popularity": _recent_popularity(values.get("recent_popularity")),
            "event_types": _event_types(values.get("event_types")),
        }
        manifest = Manifest(**{**values, **parts})
    except (TypeError, KeyError, ValueError) as wrong:
        raise BundleRefused(f"{path} lacks or misuses a field ({wrong}).") from wrong
    maps = (manifest.recipe, manifest.metrics, manifest.training, manifest.versions)
    if not all(isinstance(part, dict) for part in maps) or not isinstance(manifest.files, dict):
        raise BundleRefused(f"{path}: recipe, metrics, training, versions, files must be objects.")
    if not set(FILES) <= set(manifest.files) <= {*FILES, *OPTIONAL}:
        raise BundleRefused(
            f"{path} names the files {sorted(map(str, manifest.files))}; a bundle has "
            f"{sorted(FILES)} and perhaps {sorted(OPTIONAL)}."
        )
    if (NEIGHBOURS in manifest.files) != (manifest.blend is not None):
        raise BundleRefused(f"{path}: {NEIGHBOURS} and the settings of blend belong together.")
    if manifest.blend and manifest.blend.normalizing == 0 and manifest.retrieval.index:
        raise BundleRefused(f"{path}: a blend with a softmax over all items has no index.")
    if (INDEX in manifest.files) != (manifest.retrieval.index is not None):
        raise BundleRefused(f"{path}: {INDEX} and the settings of retrieval belong together.")
    if (CONTENT in manifest.files) != (CONTENT_MODEL in manifest.files):
        raise BundleRefused(f"{path}: {CONTENT} and {CONTENT_MODEL} belong together.")
    if type(manifest.window) is not int or not 1 <= manifest.window <= MAX_WINDOW:
        raise BundleRefused(
            f"{path}: window must be a whole number from 1 to {MAX_WINDOW:,}, "
            f"got {manifest.window!r}."
        )
    numbers = ("items", "hidden", "layers", "embedding_width", "event_types")
    whole = [getattr(manifest.size, name) for name in numbers]
    if not all(type(number) is int and 0 <= number <= MAX_SIZE for number in whole):
        raise BundleRefused(f"{path}: the sizes must be whole numbers, got {manifest.size}.")
    if manifest.size.layers > MAX_LAYERS:
        raise BundleRefused(f"{path}: {manifest.size.layers:,} layers; {MAX_LAYERS} at most.")
    if manifest.size.event_types != (manifest.event_types or NO_EVENT_TYPES).count:
        raise BundleRefused(f"{path}: the size and the names of the event types do not agree.")
    if not isinstance(manifest.created, str) or not _finite(manifest.metrics):
        raise BundleRefused(f"{path}: created must be a text, and metrics have no NaN.")
    return manifest


def _finite(values: object) -> bool:
    """Return whether no number at any depth is NaN or infinite, which JSON does not allow."""
    if isinstance(values, dict):
        return all(map(_finite, values.values()))
    if isinstance(values, list):
        return all(map(_finite, values))
    return not isinstance(values, float) or math.isfinite(values)


def _repeat_term(values: Any) -> RepeatTerm | None:
    return None if values is None else RepeatTerm(**values)


def _recent_popularity(values: Any) -> RecentPopularitySettings | None:
    return None if values is None else RecentPopularitySettings(**values)


def _event_types(values: Any) -> EventTypes | None:
    return None if values is None else EventTypes.from_json(values)


def _blend_settings(values: Any) -> BlendSettings | None:
    return None if values is None else BlendSettings.from_json(values)


def _retrieval_settings(values: Any) -> RetrievalSettings:
    index = values.get("index")
    made = None if index is None else IndexSettings(**index)
    return RetrievalSettings(**{**values, "index": made})
