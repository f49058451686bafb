"""Write a copy of a bundle with another kind of retrieval, to compare the kinds."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import FILES, INDEX, MANIFEST, NEIGHBOURS
from recsys.bundle.load import digest, load_bundle, model_id_of
from recsys.retrieval.exact import RetrievalSettings
from recsys.retrieval.int8 import Int8Index


def write_variant(bundle: Path, kind: str, out: Path) -> Path:
    """Link the files of a bundle and add another retrieval: exact, int8."""
    out.mkdir(parents=True)
    for name in (*FILES, NEIGHBOURS):
        if (bundle / name).exists():
            os.link(bundle / name, out / name)
    manifest = json.loads((bundle / MANIFEST).read_text())
    opened = load_bundle(bundle)
    settings = RetrievalSettings()
    files = {
        name: manifest["files"][name] for name in (*FILES, NEIGHBOURS) if name in manifest["files"]
    }
    if kind != "exact":
        unit = opened.manifest.size.scale or float(np.abs(opened.matrix.numpy()).max())
        index = Int8Index.of(opened.matrix, opened.bias, float(unit))
        index.write(out / INDEX)
        files[INDEX] = digest(out / INDEX)
        settings = RetrievalSettings(kind, index.settings)
    size, window, blend = opened.manifest.size, opened.manifest.window, opened.manifest.blend
    repeats = opened.manifest.repeats
    manifest |= {
        "files": files,
        "retrieval": asdict(settings),
        "model_id": model_id_of(files, window, size, (repeats, blend, settings.index)),
    }
    (out / MANIFEST).write_text(json.dumps(manifest))
    open_predictor(out)
    return out
