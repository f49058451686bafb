"""Named kinds of damage to a bundle, as failed deployments cause them.

Most of them update the digests afterwards, so that the files themselves must reveal the damage.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from recsys.bundle.layout import GOLDEN, ITEMS, MANIFEST, MODEL, WEIGHTS
from recsys.bundle.load import digest, model_id_of
from recsys.model.gru4rec import ModelSize
from recsys.model.recent_popularity import RecentPopularitySettings
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from recsys.neighbours.scoring import NeighbourSettings
from recsys.retrieval.candidates import IndexSettings


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def sign(bundle: Path) -> None:
    """Update the digests and the model id of the manifest."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = {name: digest(bundle / name) for name in manifest["files"]}
        blend = manifest["blend"]
        if blend is not None:
            blend = BlendSettings(
                **{**blend, "neighbours": NeighbourSettings(**blend["neighbours"])}
            )
        size, index = ModelSize(**manifest["size"]), manifest["retrieval"]["index"]
        repeats, recent = manifest["repeats"], manifest.get("recent_popularity")
        manifest["model_id"] = model_id_of(
            manifest["files"],
            manifest["window"],
            size,
            (
                None if repeats is None else RepeatTerm(**repeats),
                blend,
                None if index is None else IndexSettings(**index),
                None if recent is None else RecentPopularitySettings(**recent),
            ),
        )

    edit_manifest(bundle, change)


def truncated(bundle: Path) -> None:
    path = bundle / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def flipped(bundle: Path) -> None:
    path = bundle / MODEL
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def wrong_sizes(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["size"].update(items=m["size"]["items"] + 1))
    sign(bundle)


def newer(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(format_version=99))


def missing(bundle: Path) -> None:
    (bundle / ITEMS).unlink()


def no_numbers(bundle: Path) -> None:
    weights = load_file(bundle / WEIGHTS)
    weights["matrix"][3, 4] = float("nan")
    save_file(weights, bundle / WEIGHTS)
    sign(bundle)


def wrong_golden(bundle: Path) -> None:
    rows = [json.loads(line) for line in (bundle / GOLDEN).read_text().splitlines()]
    rows[0]["scores"][0] += 1
    (bundle / GOLDEN).write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(bundle)


BREAKS: dict[str, tuple[Callable[[Path], None], str]] = {  # with a part of the error message
    "truncated file": (truncated, "weights.safetensors has the sha256"),
    "flipped byte": (flipped, "model.ts has the sha256"),
    "wrong sizes": (wrong_sizes, "the manifest says"),
    "newer format": (newer, "bundle format 99"),
    "missing file": (missing, "items.parquet is missing"),
    "NaN weights": (no_numbers, "NaN or infinite"),
    "wrong golden": (wrong_golden, "golden session 1 wrongly"),
}
