"""Loading of a bundle, the immutable folder that training writes and the service loads.

    manifest.json        format, model id, sizes, recipe, metrics, versions, a sha256 for each file
    model.ts             TorchScript: step, replay, scores, top_k; holds the recurrent weights
    weights.safetensors  item matrix, biases, the input table unless it is the matrix (these
                         memory-mapped), all other weights, and with recent popularity the newest
                         clicks of each item
    items.parquet        id, count, attributes; row i is item index i
    golden.jsonl         sessions with the lists that this model gave at export
    neighbours.safetensors   only with a blend: the sessions that are searched for neighbours
    retrieval.index      only with an approximate index: finds candidates (memory-mapped)
    content.safetensors  only with content: its fields, learned numbers, and items with clicks
    content.ts           only with content: TorchScript of the content part
    report.html          report of the training run; optional

Loading trusts nothing: file names are fixed, digests and sizes are compared, numbers must be
finite. `recsys/bundle/golden.py` checks the answers of the model. Formats 1 to 5 are read, too.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recsys.bundle.layout import (
    CONTENT,
    CONTENT_MODEL,
    IDENTITY,
    INDEX,
    ITEMS,
    MODEL,
    NEIGHBOURS,
    NEWEST_CLICKS,
    NEWEST_MS,
    WEIGHTS,
)
from recsys.bundle.manifest import Manifest, read_manifest, refuse_failures
from recsys.catalogue.catalogue import Catalogue, read_catalogue
from recsys.content.encoder import ContentEncoder
from recsys.content.file import read_encoder
from recsys.errors import BundleRefused
from recsys.model.event_types import EventTypes
from recsys.model.gru4rec import ModelSize
from recsys.model.recent_popularity import (
    LEAST_COUNT,
    MOST_COUNTED,
    RecentPopularity,
    RecentPopularitySettings,
)
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend, BlendSettings
from recsys.neighbours.index import read_index
from recsys.predictor import SessionModel
from recsys.retrieval.candidates import REMOVED_KINDS, CandidateIndex, IndexSettings
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import ItemLists

log = logging.getLogger("recsys")
MEANING = ("cell", "embedding", "embedding_width", "scale")  # of a size, beside the tensors' shapes
# settings of a manifest that are in the model id
Named = RepeatTerm | BlendSettings | IndexSettings | RecentPopularitySettings | EventTypes
ROWS = 1 << 16  # of numbers checked at a time; all of them would take twice the matrix


@dataclass(frozen=True)
class Bundle:
    """Open files of a bundle, consistent with each other."""

    folder: Path
    manifest: Manifest
    catalogue: Catalogue
    model: SessionModel
    matrix: Tensor  # (N, H) float32, memory-mapped
    bias: Tensor  # (N,) float32
    inputs: Tensor | None  # (N, input_width) float32, memory-mapped; None where it is the matrix
    blend: Blend | None
    recent: RecentPopularity | None
    index: CandidateIndex | None  # None where every item is scored
    content: ContentEncoder | None = None


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_id_of(
    digests: Mapping[str, str],
    window: int,
    size: ModelSize,
    others: Sequence[Named | None] = (),
) -> str:
    """Return the model id: equal for equal files of `IDENTITY` and equal settings.

    Fields of the size at their defaults do not count, so that ids of format 1 stay valid; nor do
    `normalizing` and `votes` of a blend where they are 0, as in format 3, nor settings of None, nor
    numbers of recent popularity that are None.
    """
    chosen = {
        field.name: getattr(size, field.name)
        for field in fields(size)
        if field.name in MEANING and getattr(size, field.name) != field.default
    }
    text = "".join(digests[name] for name in IDENTITY if name in digests) + str(window)
    named = [chosen, *(_named(settings) for settings in others if settings is not None)]
    text += "".join(json.dumps(part, sort_keys=True) for part in named if part)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(settings: Named) -> dict[str, object]:
    values = asdict(settings)
    if isinstance(settings, BlendSettings):
        values = {n: v for n, v in values.items() if v != 0 or n not in ("normalizing", "votes")}
    if isinstance(settings, RecentPopularitySettings):
        values = {name: value for name, value in values.items() if value is not None}
    return values


def load_bundle(folder: Path) -> Bundle:
    """Verify and open a bundle; raise `BundleRefused` with the first problem."""
    manifest = read_manifest(folder)
    with refuse_failures(folder):
        return _load(folder, manifest)


def _load(folder: Path, manifest: Manifest) -> Bundle:
    for name, expected in manifest.files.items():
        _check_file(folder / name, expected)
    found = model_id_of(
        manifest.files,
        manifest.window,
        manifest.size,
        (
            manifest.repeats,
            manifest.blend,
            manifest.retrieval.index,
            manifest.recent_popularity,
            manifest.event_types,
        ),
    )
    if found != manifest.model_id:
        raise BundleRefused(
            f"{folder}: the model id {manifest.model_id!r} does not belong to these files. "
            "Train the bundle anew."
        )
    catalogue = read_catalogue(folder / ITEMS)
    matrix, bias, inputs = _read_weights(folder / WEIGHTS)
    _check_sizes(folder, manifest.size, catalogue, (matrix, bias, inputs))
    model = _load_model(folder / MODEL)
    _check_state(folder / MODEL, model, manifest.size, matrix if inputs is None else inputs)
    blend = _load_blend(folder, manifest.blend, len(catalogue))
    recent = _load_recent(folder / WEIGHTS, manifest.recent_popularity, len(catalogue))
    index = _load_index(folder, manifest)
    content = _load_content(folder, manifest, catalogue)
    return Bundle(
        folder, manifest, catalogue, model, matrix, bias, inputs, blend, recent, index, content
    )


def _load_content(folder: Path, manifest: Manifest, catalogue: Catalogue) -> ContentEncoder | None:
    if CONTENT not in manifest.files:
        return None
    return read_encoder(
        folder / CONTENT,
        _load_script(folder / CONTENT_MODEL),
        hidden=manifest.size.hidden,
        normalizes=manifest.size.scale > 0,
        others=sorted(catalogue.attributes),
    )


def _load_index(folder: Path, manifest: Manifest) -> CandidateIndex | None:
    settings, size = manifest.retrieval.index, manifest.size
    if settings is None:
        return None
    if settings.kind in REMOVED_KINDS:
        log.warning(
            "%s has an index of the removed kind %s: every item is scored exactly. Export the "
            "bundle anew to get an index.",
            folder,
            settings.kind,
        )
        return None
    return read_index_file(folder / INDEX, settings, size.items, size.hidden)


def _load_blend(folder: Path, settings: BlendSettings | None, items: int) -> Blend | None:
    if settings is None:
        return None
    index = read_index(folder / NEIGHBOURS, items, settings.neighbours.candidates)
    return Blend(index, settings)


def _load_recent(
    path: Path, settings: RecentPopularitySettings | None, items: int
) -> RecentPopularity | None:
    if settings is None:
        return None
    try:
        with safe_open(path, framework="pt") as weights:
            newest = weights.get_tensor(NEWEST_CLICKS).numpy()
            at_ms = 0 if settings.clicks is not None else int(weights.get_tensor(NEWEST_MS))
    except (OSError, SafetensorError) as broken:
        raise BundleRefused(f"{path} cannot be read ({broken}).") from broken
    if settings.clicks is None:
        if newest.dtype != np.float64 or newest.shape != (items,) or not _are_counts(newest):
            raise BundleRefused(
                f"{path}: {NEWEST_CLICKS} must be float64, one for each of the {items:,} items, at "
                f"least {LEAST_COUNT} for {MOST_COUNTED:,} at most and 0 for the others. Train the "
                "bundle anew."
            )
        return RecentPopularity(newest, settings, at_ms)
    right = newest.dtype == np.int64 and newest.shape == (items,)
    if not right or (newest < 0).any() or newest.sum() > settings.clicks:
        raise BundleRefused(
            f"{path}: {NEWEST_CLICKS} must be int64, from 0, one for each of the {items:,} items, "
            f"and {settings.clicks:,} in all at most. Train the bundle anew."
        )
    return RecentPopularity(newest, settings)


def _are_counts(newest: NDArray[np.float64]) -> bool:
    counted = newest[newest != 0]
    return len(counted) <= MOST_COUNTED and bool(
        (np.isfinite(counted) & (counted >= LEAST_COUNT)).all()
    )


def _check_file(path: Path, expected: object) -> None:
    if path.is_symlink():
        raise BundleRefused(f"{path} is a link; a bundle holds its own files. Copy the file there.")
    if not path.is_file():
        raise BundleRefused(f"{path} is missing. The bundle is incomplete: copy it again.")
    found = digest(path)
    if found != expected:
        raise BundleRefused(
            f"{path} has the sha256 {found[:12]}…, the manifest says {str(expected)[:12]}…. "
            "The file is damaged or was changed: copy the bundle again."
        )


def _read_weights(path: Path) -> tuple[Tensor, Tensor, Tensor | None]:
    try:
        with safe_open(path, framework="pt") as weights:
            separate = "inputs" in weights.keys()  # noqa: SIM118
            inputs = weights.get_tensor("inputs") if separate else None
            return weights.get_tensor("matrix"), weights.get_tensor("bias"), inputs
    except (OSError, SafetensorError) as broken:
        raise BundleRefused(f"{path} cannot be read ({broken}).") from broken


def _check_sizes(
    folder: Path, size: ModelSize, catalogue: Catalogue, weights: Sequence[Tensor | None]
) -> None:
    """weights: item matrix, bias, input table."""
    tables = [table for table in weights if table is not None]
    shapes = [tuple(table.shape) for table in tables]
    wanted = [s for s in ((size.items, size.hidden), (size.items,), size.inputs_shape) if s]
    if len(catalogue) != size.items or shapes != wanted:
        raise BundleRefused(
            f"{folder}: {len(catalogue)} items with item matrix, bias and input table {shapes}, "
            f"the manifest says {size.items} with {wanted}."
        )
    if any(table.dtype != torch.float32 for table in tables):
        raise BundleRefused(f"{folder}: the weights are not float32. Train the bundle anew.")
    if not all(torch.isfinite(part).all() for table in tables for part in torch.split(table, ROWS)):
        raise BundleRefused(f"{folder}: the weights hold NaN or infinite numbers. Train it anew.")


def _load_model(path: Path) -> SessionModel:
    model = _load_script(path)
    missing = [verb for verb in ("step", "replay", "scores", "top_k") if not hasattr(model, verb)]
    if missing:
        raise BundleRefused(f"{path} lacks {', '.join(missing)}. Train the bundle anew.")
    return cast(SessionModel, model)


def _load_script(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.*` is deprecated", DeprecationWarning)
            return torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu"
            ).eval()
    except RuntimeError as broken:
        first = str(broken).strip().splitlines()[0]
        raise BundleRefused(f"{path} is not readable TorchScript ({first}).") from broken


def _check_state(path: Path, model: SessionModel, size: ModelSize, inputs: Tensor) -> None:
    """Raise `BundleRefused` where a step gives a state of another size than the manifest."""
    before = torch.zeros(size.layers, 1, size.state_width)
    try:
        with torch.inference_mode():
            after = tuple(model.step(inputs, torch.zeros(1, dtype=torch.int64), before).shape)
    except RuntimeError:
        after = None
    if after != tuple(before.shape):
        raise BundleRefused(
            f"{path} does not have the state {tuple(before.shape)} of the manifest's "
            f"{size.layers} {size.cell} layer(s) of {size.hidden} units. Train the bundle anew."
        )


def read_index_file(path: Path, settings: IndexSettings, items: int, hidden: int) -> CandidateIndex:
    """Read the index of `items` vectors of `hidden` numbers, without the bias.

    Raises:
        BundleRefused: the file is not such an index.
    """
    kinds: Mapping[str, type[ItemLists] | type[Int8Index]] = {"lists": ItemLists, "int8": Int8Index}
    return kinds[settings.kind].read(path, settings, items, hidden)
