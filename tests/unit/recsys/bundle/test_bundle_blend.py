"""Session neighbours of a bundle are verified and part of its model id."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recsys.bundle.golden import (
    compute_golden_session,
    open_predictor,
    read_golden,
    write_golden,
)
from recsys.bundle.layout import GOLDEN, MANIFEST, NEIGHBOURS
from recsys.bundle.load import digest
from recsys.neighbours.blend import Blend
from tests.support.bundles.broken_bundles import edit_manifest, sign
from tests.support.bundles.trained_shop import TrainedShop
from tests.unit.recsys.bundle.test_load import refused


@pytest.fixture
def bundle(blended: TrainedShop, tmp_path: Path) -> Path:
    """Return a copy to break."""
    return Path(shutil.copytree(blended.bundle, tmp_path / "bundle"))


def test_the_manifest_says_what_is_blended(blended: TrainedShop) -> None:
    manifest = json.loads((blended.bundle / MANIFEST).read_text())

    assert manifest["blend"]["weight"] == 0.3
    assert manifest["blend"]["neighbours"]["click_decay"] == 2.0
    assert NEIGHBOURS in manifest["files"]
    assert {"model", "baselines"} <= set(manifest["metrics"])
    assert "model alone" in manifest["metrics"]["baselines"]


def test_the_file_names_no_session_and_no_user(blended: TrainedShop) -> None:
    arrays = load_file(blended.bundle / NEIGHBOURS)

    assert {array.dtype for array in arrays.values()} == {np.dtype("i4"), np.dtype("f4")}
    assert set(arrays) == {"starts", "holders", "places", "offsets", "clicks", "age_days", "rarity"}


def test_indices_out_of_range_are_refused_under_true_digests(bundle: Path) -> None:
    arrays = load_file(bundle / NEIGHBOURS)
    arrays["clicks"][0] = 200
    save_file(arrays, bundle / NEIGHBOURS)
    sign(bundle)

    assert "clicks must be from 0 to 199" in refused(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"blend": None},
        {"blend": {"weight": 0.3}},
        {"blend": {"weight": 1.5, "neighbours": {}}},
        {"blend": {"weight": 0.3, "neighbours": {"candidates": "2500"}}},
        {"blend": {"weight": 0.3, "neighbours": {"surprise": 1}}},
        {"blend": 7},
        {"blend": {"weight": 0.31, "neighbours": {}}},
    ],
    ids=str,
)
def test_a_manifest_with_a_wrong_blend_is_refused(bundle: Path, change: dict[str, Any]) -> None:
    edit_manifest(bundle, lambda m: m.update(change))

    assert str(bundle) in refused(bundle)


def test_settings_without_the_file_are_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["files"].pop(NEIGHBOURS))

    assert "belong together" in refused(bundle)


def test_another_weight_fails_the_golden_sessions(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["blend"].update(weight=0.4))
    sign(bundle)

    assert "answers golden session 1 wrongly" in refused(bundle)


def test_the_neighbours_and_the_weight_are_part_of_the_model_id(
    bundle: Path, blended: TrainedShop
) -> None:
    edit_manifest(bundle, lambda m: m["blend"].update(weight=0.4))
    sign(bundle)

    changed = json.loads((bundle / MANIFEST).read_text())["model_id"]
    assert changed != open_predictor(blended.bundle).model_id


def test_similar_items_come_from_the_model_without_neighbours(blended: TrainedShop) -> None:
    predictor = open_predictor(blended.bundle)

    assert predictor.similar(0) == predictor.with_blend(None).similar(0)
    assert predictor.recommend([0]) != predictor.with_blend(None).recommend([0])


def test_a_bundle_of_format_3_answers_with_a_softmax_over_all_items(bundle: Path) -> None:
    predictor = open_predictor(bundle)
    assert predictor.blend is not None
    settings = dataclasses.replace(predictor.blend.settings, normalizing=0, votes=0)
    blend = Blend(predictor.blend.index, settings)
    old = predictor.with_blend(blend)
    golden = [compute_golden_session(old, g.clicks) for g in read_golden(bundle / GOLDEN)]
    write_golden(bundle / GOLDEN, golden)

    def change(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 3
        del manifest["blend"]["normalizing"], manifest["blend"]["votes"]
        manifest["files"][GOLDEN] = digest(bundle / GOLDEN)

    edit_manifest(bundle, change)
    sign(bundle)
    again = open_predictor(bundle)

    assert again.recommend([1, 2, 1]) == old.recommend([1, 2, 1])
    assert again.recommend([1, 2, 1]) != predictor.recommend([1, 2, 1])
    session = [np.array([1, 2, 1, 0], dtype=np.int32)]
    scores = again.with_repeats(None).scores_along(session)
    assert scores.exp().sum(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
