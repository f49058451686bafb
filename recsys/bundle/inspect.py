"""What a bundle says of itself, and whether it is true: `recsys inspect`.

A folder in, facts out; `as_json` gives them to a program, `recsys/bundle/inspect.py` to a
person. A bundle that would be refused is described all the same, as far as its manifest goes, with
what is wrong. Of a shelf, every bundle on it is named.
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
from recsys.bundle.registry import bundle_of, bundles_on, is_shelf
from recsys.console import add_row, metrics_tables, neat_table, print_fitting, size_said
from recsys.errors import BadInput, BundleRefused
from recsys.listing import ranked_tables
from recsys.predictor import Predictor
from recsys.retrieval.exact import RetrievalSettings, describe_retrieval

MOST_CLICKED = 5


@dataclass(frozen=True)
class RegistryEntry:
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


def inspect_shelf(folder: Path) -> list[RegistryEntry]:
    """Every bundle on it, the newest name last; nothing where the folder is no shelf."""
    if not is_shelf(folder):
        return []
    try:
        current = bundle_of(folder).name
    except BundleRefused:  # whoever goes on with this shelf is told why
        current = ""
    return [_shelved(folder / name, name == current) for name in bundles_on(folder)]


def _shelved(bundle: Path, current: bool) -> RegistryEntry:
    try:
        return RegistryEntry(bundle.name, current, read_manifest(bundle), None)
    except BundleRefused as refused:
        return RegistryEntry(bundle.name, current, None, str(refused))


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
    found: Inspection, shelf: Sequence[RegistryEntry], near: Nearest | None = None
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


def _on_shelf(bundle: RegistryEntry) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "current": bundle.current,
        "model_id": None if manifest is None else manifest.model_id,
        "created": None if manifest is None else manifest.created,
        "problem": bundle.problem,
    }


TEXT_WIDTH = 100  # of lines that are broken
SHOWN_DIGEST = 16  # letters of a file's sha256
HEADLINE = ("recall@20", "mrr@20")
LEFT_OUT = {"0": "nothing", "0.5": "half of the items", "0.99": "99 % of the items"}


def show_shelf(shelf: Sequence[RegistryEntry], console: Console) -> None:
    table = neat_table("On the shelf", left=["bundle", "model", "written"], right=HEADLINE)
    for bundle in shelf:
        style = "bold" if bundle.current else ""
        name = f"{bundle.name} (current)" if bundle.current else bundle.name
        if bundle.manifest is None:
            add_row(table, name, "unreadable", "", "–", "–", style=style)
            continue
        model = bundle.manifest.metrics.get("model", {})
        figures = [f"{model[m]:.4f}" if m in model else "–" for m in HEADLINE]
        about = (bundle.manifest.model_id, bundle.manifest.created)
        add_row(table, name, *about, *figures, style=style)
    console.print(table)
    for bundle in shelf:
        if bundle.problem is not None:
            console.print(f"{bundle.name}: {bundle.problem}", markup=False)
    console.print()


def show_bundle(found: Inspection, console: Console) -> None:
    manifest = found.manifest
    console.print(Text(f"Model {manifest.model_id} in {found.folder}", style="bold"))
    console.print(_facts(found))
    console.print()
    console.print(_files(found))
    console.print()
    if manifest.metrics.get("model"):
        rows = {"model": manifest.metrics["model"], **manifest.metrics.get("baselines", {})}
        cases = manifest.metrics.get("cases", 0)
        print_fitting(console, metrics_tables(rows, f"Measured on {cases:,} next clicks"))
        console.print()
    if manifest.retrieval.recall:
        console.print(_found_by(manifest.retrieval))
        console.print()
    settings = "  ".join(f"{name}={value}" for name, value in manifest.recipe.items())
    console.print(Text("Recipe", style="bold"))
    console.print(Text(settings), width=min(console.width, TEXT_WIDTH))


def show_nearest(found: Inspection, near: Nearest, console: Console) -> None:
    assert found.predictor is not None, "a bundle that was refused has no nearest items"
    title = f"Nearest to {near.item_id} ({near.count:,} clicks in training)"
    console.print()
    print_fitting(
        console, ranked_tables(found.predictor.catalogue, near.items, title, score="cosine")
    )


def _facts(found: Inspection) -> Table:
    manifest = found.manifest
    table = neat_table(left=["", ""])
    table.show_header = False
    version = manifest.versions.get("session-recsys", "?")
    size = manifest.size
    layers = f"{size.layers} {size.cell} layer{'s' if size.layers > 1 else ''}"
    scores = f"cosine scores × {size.scale:g}" if size.scale else "inner products"
    add_row(table, "written", f"{manifest.created}, by session-recsys {version}")
    add_row(table, "items", _items_table(found))
    add_row(table, "network", f"{layers} of {size.hidden} units, {size.embedding} items, {scores}")
    add_row(table, "remembers", f"the last {manifest.window} clicks of a session")
    add_row(table, "trained on", _trained(manifest))
    add_row(table, "finds items", describe_retrieval(manifest.retrieval))
    blend = manifest.training.get("blend", "none")
    if blend != "none":
        add_row(table, "neighbours", str(blend))
    checked = "all digests fit, and the golden sessions are answered as when it was written"
    add_row(table, "verified", checked if found.problem is None else _refused(found.problem))
    return table


def _refused(problem: str) -> Text:
    return Text(f"no: {problem}", style="bold red")


def _items_table(found: Inspection) -> str:
    count = f"{found.manifest.size.items:,}"
    if found.predictor is None or not found.predictor.catalogue.attributes:
        return count
    return f"{count}, with {', '.join(sorted(found.predictor.catalogue.attributes))}"


def _trained(manifest: Manifest) -> str:
    about: Mapping[str, Any] = manifest.training
    parts = [f"{about[name]:,} {name}" for name in ("sessions", "clicks") if name in about]
    if "cut_off" in about:
        parts.append(f"until {about['cut_off']}")
    if "best_epoch" in about:
        parts.append(f"best epoch {about['best_epoch']}")
    if "parent" in about:
        parts.append(f"going on from model {about['parent']}")
    return ", ".join(parts) or "not said"


def _files(found: Inspection) -> Table:
    table = neat_table("Files", left=["file"], right=["size"])
    table.add_column("sha256", no_wrap=True, overflow="ellipsis")
    for name, size in found.sizes.items():
        add_row(table, name, size_said(size), found.manifest.files.get(name, "")[:SHOWN_DIGEST])
    for name in found.manifest.files:
        if name not in found.sizes:
            add_row(table, name, "missing", "", style="bold red")
    add_row(table, "together", size_said(sum(found.sizes.values())), "", style="dim")
    return table


def _found_by(settings: RetrievalSettings) -> Table:
    """What the way of finding items overlooks, as measured when the bundle was written."""
    table = neat_table("Found of exact lists", left=["left out"], right=["found"])
    for what, share in settings.recall.items():
        add_row(table, LEFT_OUT.get(what, f"the {what}"), f"{share:.4f}")
    return table
