"""A bundle: the folder that training writes and serving loads; complete, immutable, verified.

    manifest.json        format, model id, sizes, recipe, metrics, versions, a sha256 for each file
    model.ts             TorchScript: step, replay, scores, top_k; holds the recurrent weights
    weights.safetensors  item matrix and biases (memory-mapped) and all other weights
    items.parquet        id, count, attributes; row i is item index i
    golden.jsonl         sessions with the lists this model gave when it was exported
    report.html          what training measured, for people; optional

Loading trusts nothing: names are the fixed ones above, digests and sizes are compared, numbers
must be finite. What the model answers is checked in `recsys/golden.py`.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recsys.catalogue import Catalogue, read_catalogue
from recsys.errors import BundleRefused
from recsys.model import ModelSize
from recsys.predictor import SessionModel

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MODEL = "model.ts"
WEIGHTS = "weights.safetensors"
ITEMS = "items.parquet"
GOLDEN = "golden.jsonl"
REPORT = "report.html"
FILES = (MODEL, WEIGHTS, ITEMS, GOLDEN)
OPTIONAL = (REPORT,)  # verified where the manifest names them
IDENTITY = (WEIGHTS, ITEMS)  # with the window they decide the answers, and so the model id
LARGEST_MANIFEST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself."""

    format_version: int
    model_id: str
    created: str  # UTC, ISO 8601
    size: ModelSize
    window: int  # clicks a state remembers
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]  # sessions, clicks, cut-off
    versions: Mapping[str, str]
    files: Mapping[str, str]  # name → sha256

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle's files, open and consistent with each other."""

    folder: Path
    manifest: Manifest
    catalogue: Catalogue
    model: SessionModel
    matrix: Tensor  # (N, H) float32, memory-mapped
    bias: Tensor  # (N,) float32


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_id_of(digests: Mapping[str, str], window: int) -> str:
    """The name of what decides the answers: same weights, items and window → same id."""
    text = "".join(digests[name] for name in IDENTITY) + str(window)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_bundle(folder: Path) -> Bundle:
    """Verify and open a bundle; raises `BundleRefused` with the first thing that is wrong."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        _check_file(folder / name, expected)
    if model_id_of(manifest.files, manifest.window) != manifest.model_id:
        raise BundleRefused(
            f"{folder}: the model id {manifest.model_id!r} does not belong to these files. "
            "Export the bundle anew."
        )
    catalogue = read_catalogue(folder / ITEMS)
    matrix, bias = _read_weights(folder / WEIGHTS)
    _check_sizes(folder, manifest.size, catalogue, matrix, bias)
    return Bundle(folder, manifest, catalogue, _load_model(folder / MODEL), matrix, bias)


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleRefused(f"There is no bundle folder {folder}. Make one with recsys train.")
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(LARGEST_MANIFEST))
    except FileNotFoundError as missing:
        raise BundleRefused(
            f"{folder} is no bundle: it has no {MANIFEST}. Give the --out folder of recsys train."
        ) from missing
    except (OSError, ValueError) as broken:
        raise BundleRefused(f"{path} is not readable JSON ({broken}).") from broken
    return _manifest(path, values)


def _manifest(path: Path, values: object) -> Manifest:
    found = values.get("format_version") if isinstance(values, dict) else None
    if type(found) is not int or found != FORMAT_VERSION:
        newer = type(found) is int and found > FORMAT_VERSION
        advice = "Upgrade session-recsys." if newer else "Train and export the bundle anew."
        raise BundleRefused(
            f"{path} has bundle format {found!r}; this version reads {FORMAT_VERSION}. {advice}"
        )
    assert isinstance(values, dict)
    try:
        manifest = Manifest(**{**values, "size": ModelSize(**values["size"])})
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
    if type(manifest.window) is not int or manifest.window < 1:
        raise BundleRefused(
            f"{path}: window must be a whole number from 1, got {manifest.window!r}."
        )
    if not all(type(getattr(manifest.size, n)) is int for n in ("items", "hidden", "layers")):
        raise BundleRefused(f"{path}: the sizes must be whole numbers, got {manifest.size}.")
    return manifest


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


def _read_weights(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with safe_open(path, framework="pt") as weights:
            return weights.get_tensor("matrix"), weights.get_tensor("bias")
    except (OSError, SafetensorError) as broken:
        raise BundleRefused(f"{path} cannot be read ({broken}).") from broken


def _check_sizes(
    folder: Path, size: ModelSize, catalogue: Catalogue, matrix: Tensor, bias: Tensor
) -> None:
    found = (len(catalogue), tuple(matrix.shape), tuple(bias.shape), matrix.dtype, bias.dtype)
    wanted = (size.items, (size.items, size.hidden), (size.items,), torch.float32, torch.float32)
    if found != wanted:
        raise BundleRefused(
            f"{folder}: catalogue, item matrix and bias are {found}, the manifest says {wanted}."
        )
    if not (torch.isfinite(matrix).all() and torch.isfinite(bias).all()):
        raise BundleRefused(f"{folder}: the weights hold NaN or infinite numbers. Train it anew.")


def _load_model(path: Path) -> SessionModel:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.*` is deprecated", DeprecationWarning)
            model = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu"
            ).eval()
    except RuntimeError as broken:
        first = str(broken).strip().splitlines()[0]
        raise BundleRefused(f"{path} is not readable TorchScript ({first}).") from broken
    missing = [verb for verb in ("step", "replay", "scores", "top_k") if not hasattr(model, verb)]
    if missing:
        raise BundleRefused(f"{path} lacks {', '.join(missing)}. Export the bundle anew.")
    return cast(SessionModel, model)
