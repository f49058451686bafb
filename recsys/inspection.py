"""What a bundle says of itself, and whether it is true: `recsys inspect`.

A folder in, facts out; `as_json` gives them to a program, `recsys/inspection_tables.py` to a
person. A bundle that would be refused is described all the same, as far as its manifest goes, with
what is wrong. Of a shelf, every bundle on it is named.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.bundle_files import MANIFEST
from recsys.errors import BadInput, BundleRefused
from recsys.golden import open_predictor
from recsys.manifest import Manifest, read_manifest
from recsys.predictor import Predictor
from recsys.shelf import bundle_of, bundles_on, is_shelf

MOST_CLICKED = 5


@dataclass(frozen=True)
class Shelved:
    """A bundle on a shelf; the manifest is None where it cannot be read."""

    name: str
    current: bool
    manifest: Manifest | None
    problem: str | None


@dataclass(frozen=True)
class Inspection:
    """A bundle; the predictor is None where it was refused, for the reason in `problem`."""

    folder: Path
    manifest: Manifest
    sizes: dict[str, int]  # file → bytes, of those that are there; the manifest first
    predictor: Predictor | None
    problem: str | None


def inspect_shelf(folder: Path) -> list[Shelved]:
    """Every bundle on it, the newest name last; nothing where the folder is no shelf."""
    if not is_shelf(folder):
        return []
    try:
        current = bundle_of(folder).name
    except BundleRefused:  # whoever goes on with this shelf is told why
        current = ""
    return [_shelved(folder / name, name == current) for name in bundles_on(folder)]


def _shelved(bundle: Path, current: bool) -> Shelved:
    try:
        return Shelved(bundle.name, current, read_manifest(bundle), None)
    except BundleRefused as refused:
        return Shelved(bundle.name, current, None, str(refused))


def inspect_bundle(folder: Path) -> Inspection:
    """Read, then verified as a service would; raises `BundleRefused` where nothing can be read."""
    manifest = read_manifest(folder)
    files = [folder / name for name in (MANIFEST, *manifest.files)]
    sizes = {file.name: file.stat().st_size for file in files if file.is_file()}
    try:
        return Inspection(folder, manifest, sizes, open_predictor(folder), None)
    except BundleRefused as refused:
        return Inspection(folder, manifest, sizes, None, str(refused))


@dataclass(frozen=True, slots=True)
class Nearest:
    """Items clicked in the same way as one, by the cosine of their vectors."""

    item_id: str
    count: int  # its clicks in training
    items: Sequence[tuple[str, float]]


def nearest(found: Inspection, item_id: str, k: int) -> Nearest:
    """Raises `UnknownItem`, and `BadInput` where the bundle was refused."""
    predictor = found.predictor
    if predictor is None:
        raise BadInput("--item cannot be looked up", [f"the bundle was refused: {found.problem}"])
    catalogue = predictor.catalogue
    item = catalogue.index(item_id)
    ranking = predictor.similar(item, k)
    ids = catalogue.item_ids.take(ranking.items)
    return Nearest(
        item_id, int(catalogue.counts[item]), list(zip(ids, ranking.scores, strict=True))
    )


def as_json(
    found: Inspection, shelf: Sequence[Shelved], near: Nearest | None = None
) -> dict[str, Any]:
    """The manifest as it is, with what was found beside it."""
    manifest = asdict(found.manifest)
    digests = manifest.pop("files")
    facts = {
        "folder": str(found.folder),
        "verified": found.problem is None,
        "problem": found.problem,
        **manifest,
        "files": {
            name: {"bytes": size, "sha256": digests.get(name)} for name, size in found.sizes.items()
        },
        "items": None if found.predictor is None else _items(found.predictor),
    }
    if near is not None:
        similar = [{"item_id": item_id, "score": score} for item_id, score in near.items]
        facts["nearest"] = {"item_id": near.item_id, "count": near.count, "items": similar}
    if shelf:
        facts["shelf"] = [_on_shelf(bundle) for bundle in shelf]
    return facts


def _items(predictor: Predictor) -> dict[str, Any]:
    catalogue = predictor.catalogue
    first = catalogue.by_popularity[:MOST_CLICKED].tolist()
    return {
        "count": len(catalogue),
        "attributes": sorted(catalogue.attributes),
        "most_clicked": [
            {"item_id": item_id, "count": int(catalogue.counts[item])}
            for item, item_id in zip(first, catalogue.item_ids.take(first), strict=True)
        ],
    }


def _on_shelf(bundle: Shelved) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "current": bundle.current,
        "model_id": None if manifest is None else manifest.model_id,
        "created": None if manifest is None else manifest.created,
        "problem": bundle.problem,
    }
