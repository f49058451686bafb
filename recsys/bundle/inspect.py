"""Inspection of a bundle or a model registry: `recsys inspect`.

`inspect_bundle`, `inspect_registry` and `find_nearest` collect facts; `as_json` and the `show_…`
functions present them. A bundle that a service would refuse is described too, as far as its
manifest goes, with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.bundle.registry import Published, is_registry, list_bundles, read_current
from recsys.console import add_row, format_bytes, metrics_tables, neat_table, print_fitting
from recsys.errors import BadInput, BundleRefused
from recsys.listing import ranked_tables
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery, RetrievalSettings, describe_retrieval

MOST_CLICKED = 5  # items in the JSON object
HEADLINE_METRICS = ("recall@20", "mrr@20")
TEXT_WIDTH = 100  # columns of wrapped text
SHOWN_DIGEST = 16  # characters of a file's sha256
EXCLUDED = {"0": "nothing", "0.5": "half of the items", "0.99": "99 % of the items"}


@dataclass(frozen=True)
class RegistryEntry:
    """A bundle of a model registry; the manifest is None where it cannot be read.

    `share` is its percent of the users; None if it answers none.
    """

    name: str
    current: bool
    share: float | None
    manifest: Manifest | None
    problem: str | None


@dataclass(frozen=True)
class Inspection:
    """Facts of a bundle; the predictor is None where it is refused, for the reason in `problem`."""

    folder: Path
    manifest: Manifest
    file_bytes: dict[str, int]  # file → size, the manifest first; missing files are left out
    predictor: Predictor | None
    problem: str | None


def inspect_registry(folder: Path) -> list[RegistryEntry]:
    """Return all bundles of a registry, the newest last; nothing of a folder that is none."""
    if not is_registry(folder):
        return []
    try:
        published = read_current(folder)
    except BundleRefused:  # the caller resolves the bundle, too, and reports it
        published = Published("")
    return [_registry_entry(folder / name, published) for name in list_bundles(folder)]


def _registry_entry(bundle: Path, published: Published) -> RegistryEntry:
    name = bundle.name
    place = name, name == published.main, published.shares.get(name)
    try:
        return RegistryEntry(*place, read_manifest(bundle), None)
    except BundleRefused as refused:
        return RegistryEntry(*place, None, str(refused))


def inspect_bundle(folder: Path) -> Inspection:
    """Read a bundle and verify it as a service does; raise `BundleRefused` without a manifest."""
    manifest = read_manifest(folder)
    files = [folder / name for name in (MANIFEST, *manifest.files)]
    sizes = {file.name: file.stat().st_size for file in files if file.is_file()}
    try:
        return Inspection(folder, manifest, sizes, open_predictor(folder), None)
    except BundleRefused as refused:
        return Inspection(folder, manifest, sizes, None, str(refused))


@dataclass(frozen=True, slots=True)
class NearestItems:
    """Items whose vectors are closest to that of one item, with their cosines."""

    item_id: str
    count: int  # its clicks in training
    items: Sequence[tuple[str, float]]


def find_nearest(inspection: Inspection, item_id: str, k: int) -> NearestItems:
    """Return the k nearest items; raise `UnknownItem`, or `BadInput` for a refused bundle."""
    predictor = inspection.predictor
    if predictor is None:
        raise BadInput(
            "--item cannot be looked up", [f"the bundle is refused: {inspection.problem}"]
        )
    catalogue = predictor.catalogue
    item = catalogue.index(item_id)
    ranking = predictor.similar(item, RankingQuery(k))
    ids = catalogue.item_ids.take(ranking.items)
    return NearestItems(
        item_id, int(catalogue.counts[item]), list(zip(ids, ranking.scores, strict=True))
    )


def as_json(
    inspection: Inspection, entries: Sequence[RegistryEntry], nearest: NearestItems | None = None
) -> dict[str, Any]:
    """Return the fields of the manifest, with the results of the inspection beside them."""
    manifest = asdict(inspection.manifest)
    digests = manifest.pop("files")
    facts = {
        "folder": str(inspection.folder),
        "verified": inspection.problem is None,
        "problem": inspection.problem,
        **manifest,
        "files": {
            name: {"bytes": size, "sha256": digests.get(name)}
            for name, size in inspection.file_bytes.items()
        },
        "items": None if inspection.predictor is None else _items_as_json(inspection.predictor),
    }
    if nearest is not None:
        similar = [{"item_id": item_id, "score": score} for item_id, score in nearest.items]
        facts["nearest"] = {"item_id": nearest.item_id, "count": nearest.count, "items": similar}
    if entries:
        facts["shelf"] = [_entry_as_json(entry) for entry in entries]  # the name is a format
    return facts


def _items_as_json(predictor: Predictor) -> dict[str, Any]:
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


def _entry_as_json(entry: RegistryEntry) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "name": entry.name,
        "current": entry.current,
        "share": entry.share,
        "model_id": None if manifest is None else manifest.model_id,
        "created": None if manifest is None else manifest.created,
        "problem": entry.problem,
    }


def show_registry(entries: Sequence[RegistryEntry], console: Console) -> None:
    table = neat_table(
        "Model registry", left=["bundle", "model", "written"], right=HEADLINE_METRICS
    )
    for entry in entries:
        style = "bold" if entry.current else ""
        name = f"{entry.name} (current)" if entry.current else entry.name
        if entry.share not in (None, 100):
            name += f" {entry.share:g} %"
        if entry.manifest is None:
            add_row(table, name, "unreadable", "", "–", "–", style=style)
            continue
        model = entry.manifest.metrics.get("model", {})
        figures = [f"{model[m]:.4f}" if m in model else "–" for m in HEADLINE_METRICS]
        about = (entry.manifest.model_id, entry.manifest.created)
        add_row(table, name, *about, *figures, style=style)
    console.print(table)
    for entry in entries:
        if entry.problem is not None:
            console.print(f"{entry.name}: {entry.problem}", markup=False)
    console.print()


def show_bundle(inspection: Inspection, console: Console) -> None:
    manifest = inspection.manifest
    console.print(Text(f"Model {manifest.model_id} in {inspection.folder}", style="bold"))
    console.print(_facts_table(inspection))
    console.print()
    console.print(_files_table(inspection))
    console.print()
    if manifest.metrics.get("model"):
        rows = {"model": manifest.metrics["model"], **manifest.metrics.get("baselines", {})}
        cases = manifest.metrics.get("cases", 0)
        print_fitting(console, metrics_tables(rows, f"Measured on {cases:,} next clicks"))
        console.print()
    if manifest.retrieval.recall:
        console.print(_index_recall_table(manifest.retrieval))
        console.print()
    settings = "  ".join(f"{name}={value}" for name, value in manifest.recipe.items())
    console.print(Text("Recipe", style="bold"))
    console.print(Text(settings), width=min(console.width, TEXT_WIDTH))


def show_nearest(inspection: Inspection, nearest: NearestItems, console: Console) -> None:
    assert inspection.predictor is not None, "a refused bundle has no nearest items"
    title = f"Nearest to {nearest.item_id} ({nearest.count:,} clicks in training)"
    console.print()
    print_fitting(
        console, ranked_tables(inspection.predictor.catalogue, nearest.items, title, score="cosine")
    )


def _facts_table(inspection: Inspection) -> Table:
    manifest = inspection.manifest
    table = neat_table(left=["", ""])
    table.show_header = False
    version = manifest.versions.get("session-recsys", "?")
    size = manifest.size
    layers = f"{size.layers} {size.cell} layer{'s' if size.layers > 1 else ''}"
    scores = f"cosine scores × {size.scale:g}" if size.scale else "inner products"
    add_row(table, "written", f"{manifest.created}, by session-recsys {version}")
    add_row(table, "items", _items_text(inspection))
    add_row(table, "network", f"{layers} of {size.hidden} units, {size.embedding} items, {scores}")
    add_row(table, "remembers", f"the last {manifest.window} clicks of a session")
    if manifest.event_types is not None:
        add_row(table, "tells apart", ", ".join(manifest.event_types.default_first))
    add_row(table, "trained on", _training_text(manifest))
    add_row(table, "finds items", describe_retrieval(manifest.retrieval))
    for label, name in (
        ("repeated items", "repeats"),
        ("recent popularity", "recent_popularity"),
        ("neighbours", "blend"),
        ("content", "content"),
        ("new items", "new_items"),
    ):
        summary = manifest.training.get(name, "none")
        if summary != "none":
            add_row(table, label, str(summary))
    verified = Text("all digests fit, and the golden sessions are answered as when it was written")
    if inspection.problem is not None:
        verified = Text(f"no: {inspection.problem}", style="bold red")
    add_row(table, "verified", verified)
    return table


def _items_text(inspection: Inspection) -> str:
    count = f"{inspection.manifest.size.items:,}"
    if inspection.predictor is None or not inspection.predictor.catalogue.attributes:
        return count
    return f"{count}, with {', '.join(sorted(inspection.predictor.catalogue.attributes))}"


def _training_text(manifest: Manifest) -> str:
    about: Mapping[str, Any] = manifest.training
    parts = [f"{about[name]:,} {name}" for name in ("sessions", "clicks") if name in about]
    if "cut_off" in about:
        parts.append(f"until {about['cut_off']}")
    if "best_epoch" in about:
        parts.append(f"best epoch {about['best_epoch']}")
    if "recipe" in about:
        parts.append(f"recipe {about['recipe']}")
    if "parent" in about:
        parts.append(f"continued from model {about['parent']}")
    return ", ".join(parts) or "unknown"


def _files_table(inspection: Inspection) -> Table:
    table = neat_table("Files", left=["file"], right=["size"])
    table.add_column("sha256", no_wrap=True, overflow="ellipsis")
    for name, size in inspection.file_bytes.items():
        add_row(
            table, name, format_bytes(size), inspection.manifest.files.get(name, "")[:SHOWN_DIGEST]
        )
    for name in inspection.manifest.files:
        if name not in inspection.file_bytes:
            add_row(table, name, "missing", "", style="bold red")
    add_row(table, "together", format_bytes(sum(inspection.file_bytes.values())), "", style="dim")
    return table


def _index_recall_table(settings: RetrievalSettings) -> Table:
    """Return the recall of the index against exact scoring, measured at export."""
    table = neat_table("Found of exact lists", left=["left out"], right=["found"])
    for excluded, recall in settings.recall.items():
        add_row(table, EXCLUDED.get(excluded, f"the {excluded}"), f"{recall:.4f}")
    return table
