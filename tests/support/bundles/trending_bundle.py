"""Bundle whose recent popularity goes on, from a bundle without it."""

import dataclasses
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from recsys.bundle.golden import (
    compute_golden_session,
    read_golden,
    unverified_predictor,
    write_golden,
)
from recsys.bundle.layout import GOLDEN, NEWEST_CLICKS, NEWEST_MS, WEIGHTS
from recsys.bundle.load import load_bundle
from recsys.model.recent_popularity import RecentPopularity
from tests.support.bundles.broken_bundles import edit_manifest, sign


def with_counts(bundle: Path, out: Path, recent: RecentPopularity) -> Path:
    """Write a copy of a bundle with these counts; return its folder."""
    shutil.copytree(bundle, out)
    opened = dataclasses.replace(load_bundle(bundle), recent=recent)
    predictor = unverified_predictor(opened, opened.manifest.repeats, opened.blend)
    golden = [compute_golden_session(predictor, one.clicks) for one in read_golden(bundle / GOLDEN)]
    write_golden(out / GOLDEN, golden)
    counts = {
        NEWEST_CLICKS: torch.from_numpy(recent.newest),
        NEWEST_MS: torch.tensor(recent.at_ms),
    }
    save_file({**load_file(bundle / WEIGHTS), **counts}, out / WEIGHTS)
    settings = dataclasses.asdict(recent.settings)
    edit_manifest(out, lambda manifest: manifest.update(recent_popularity=settings))
    sign(out)
    return out
