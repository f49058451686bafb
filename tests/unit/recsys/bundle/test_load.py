"""Every defect of a bundle is refused with a message."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.bundle.golden import (
    GoldenSession,
    check_golden,
    difference,
    open_predictor,
    read_golden,
    write_golden,
)
from recsys.bundle.layout import GOLDEN, ITEMS, MANIFEST, MODEL, NEIGHBOURS, REPORT, WEIGHTS
from recsys.bundle.load import digest
from recsys.errors import BundleRefused
from recsys.model.gru4rec import ModelSize
from recsys.predictor import Predictor
from tests.support.bundles.broken_bundles import edit_manifest, no_numbers, sign
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from training.export import Export, write_bundle
from training.model.weights import Weights
from training.recipe import Recipe


@pytest.fixture
def bundle(trained: TrainedShop, tmp_path: Path) -> Path:
    """Return a copy to break."""
    return Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))


def refused(bundle: Path) -> str:
    with pytest.raises(BundleRefused) as caught:
        open_predictor(bundle)
    return str(caught.value)


def test_a_bundle_holds_what_the_design_says_and_no_pickle(trained: TrainedShop) -> None:
    names = {file.name for file in trained.bundle.iterdir()}

    assert names == {MANIFEST, MODEL, WEIGHTS, ITEMS, GOLDEN, REPORT}
    manifest = json.loads((trained.bundle / MANIFEST).read_text())
    assert manifest["format_version"] == 6
    assert manifest["size"] == {
        **{"items": 200, "hidden": 32, "layers": 1, "cell": "gru"},
        **{"embedding": "shared", "embedding_width": 0, "scale": SMALL.scale, "event_types": 1},
    }
    assert manifest["training"]["cut_off"].startswith("2026-01-")
    assert pq.read_table(trained.bundle / ITEMS).column_names[:2] == ["item_id", "count"]


def test_a_missing_folder_and_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    assert "There is no bundle folder" in refused(tmp_path / "none")
    assert "is not a bundle: it has no manifest.json" in refused(tmp_path)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, ITEMS, GOLDEN, REPORT, NEIGHBOURS])
def test_a_missing_a_flipped_and_a_truncated_file_are_refused(
    blended: TrainedShop, tmp_path: Path, name: str
) -> None:
    bundle = Path(shutil.copytree(blended.bundle, tmp_path / "bundle"))
    path = bundle / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1

    path.write_bytes(flipped)
    assert f"{name} has the sha256" in refused(bundle)
    path.write_bytes(whole[:-10])
    assert f"{name} has the sha256" in refused(bundle)
    path.unlink()
    assert f"{name} is missing" in refused(bundle)


def test_a_bundle_without_a_report_loads_as_the_same_model(bundle: Path) -> None:
    before = open_predictor(bundle).model_id
    (bundle / REPORT).unlink()
    edit_manifest(bundle, lambda m: m["files"].pop(REPORT))

    assert open_predictor(bundle).model_id == before


def test_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / ITEMS).rename(tmp_path / "elsewhere")
    (bundle / ITEMS).symlink_to(tmp_path / "elsewhere")

    assert "is a link" in refused(bundle)


def test_a_newer_format_asks_for_an_upgrade(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m.update(format_version=7))

    assert "has bundle format 7; this version reads 1 to 6. Upgrade" in refused(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"format_version": 1}', "\x00"])
def test_a_manifest_that_is_not_a_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_text(text)

    assert MANIFEST in refused(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"items": 0, "hidden": 32, "layers": 1}},
        {"size": {"items": 200.0, "hidden": 32, "layers": 1}},
        {"size": {"items": "200", "hidden": 32, "layers": 1}},
        {"window": 0},
        {"window": 10**30},
        {"retrieval": None},
        {"retrieval": []},
        {"size": {"items": 600, "hidden": 32, "layers": 10**9}},
        {"size": {"items": 600, "hidden": 32, "layers": 2**70}},
        {"created": 5},
        {"metrics": {"recall@20": [float("nan")]}},
        {"window": 49},
        {"files": {"../../etc/passwd": "0"}},
        {"files": []},
        {"files": {name: "0" for name in (MODEL, WEIGHTS, ITEMS, GOLDEN, REPORT, "more")}},
        {"files": {name: "0" for name in (MODEL, WEIGHTS, ITEMS, REPORT)}},
        {"recipe": None},
        {"surprise": 1},
        {"model_id": "0000000000000000"},
        {"size": {"items": 201, "hidden": 32, "layers": 1}},
        {"size": {"items": 200, "hidden": 32, "layers": 1, "cell": "rnn"}},
        {"size": {"items": 200, "hidden": 32, "layers": 1, "cell": "gruu"}},
        {"size": {"items": 200, "hidden": 32, "layers": 1, "scale": 2.0}},
        {"size": {"items": 200, "hidden": 32, "layers": 1, "scale": "2"}},
    ],
    ids=str,
)
def test_a_manifest_with_wrong_values_is_refused(bundle: Path, change: dict[str, Any]) -> None:
    edit_manifest(bundle, lambda m: m.update(change))

    assert str(bundle) in refused(bundle)


@pytest.mark.parametrize(
    "line",
    [
        '{"clicks": 5, "items": [], "scores": []}',
        '{"clicks": [["a"]], "items": [], "scores": []}',
        '{"clicks": [], "items": 5, "scores": []}',
        json.dumps({"clicks": [], "items": ["a"] * 20, "scores": [1.0]}),
        json.dumps({"clicks": [], "items": ["a"] * 20, "scores": ["high"] * 20}),
        "[" * 100_000,
    ],
    ids=["number", "nested", "items", "too few scores", "words for scores", "deep"],
)
def test_golden_sessions_of_another_shape_are_refused(bundle: Path, line: str) -> None:
    (bundle / GOLDEN).write_text(line + "\n")
    sign(bundle)

    assert str(bundle) in refused(bundle)


def test_a_manifest_that_nests_without_end_is_refused(bundle: Path) -> None:
    (bundle / MANIFEST).write_text("[" * 100_000)

    assert str(bundle) in refused(bundle)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_a_manifest_that_is_no_file_is_refused_at_once(
    bundle: Path, make: Callable[[Path], object]
) -> None:
    (bundle / MANIFEST).rename(bundle / "elsewhere")
    make(bundle / MANIFEST)

    assert "is a link or not a file" in refused(bundle)


def test_weights_with_nan_are_refused(bundle: Path) -> None:
    no_numbers(bundle)

    assert "NaN or infinite" in refused(bundle)


def test_weights_of_another_size_are_refused(bundle: Path) -> None:
    weights = load_file(bundle / WEIGHTS)
    save_file({**weights, "matrix": torch.zeros(200, 31)}, bundle / WEIGHTS)
    sign(bundle)

    assert "the manifest says 200 with [(200, 32), (200,)]" in refused(bundle)


def test_other_weights_under_true_digests_fail_the_golden_sessions(bundle: Path) -> None:
    weights = load_file(bundle / WEIGHTS)
    save_file({**weights, "matrix": weights["matrix"] * 1.01}, bundle / WEIGHTS)
    sign(bundle)

    assert "answers golden session 1 wrongly" in refused(bundle)


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"clicks": []}\n'])
def test_golden_sessions_must_be_there(bundle: Path, text: str) -> None:
    (bundle / GOLDEN).write_text(text)
    sign(bundle)

    assert GOLDEN in refused(bundle)


def test_a_file_that_is_no_torchscript_is_refused(bundle: Path) -> None:
    (bundle / MODEL).write_bytes(b"PK\x03\x04 nothing")
    sign(bundle)

    assert "is not readable TorchScript" in refused(bundle)


def test_an_items_file_that_is_no_catalogue_is_refused(bundle: Path) -> None:
    (bundle / ITEMS).write_bytes(b"PAR1")
    sign(bundle)

    assert "not a readable Parquet file" in refused(bundle)


def test_the_golden_sessions_hold_the_odd_cases_too(
    trained: TrainedShop, predictor: Predictor
) -> None:
    sessions = read_golden(trained.bundle / GOLDEN)
    lengths = [len(session.clicks) for session in sessions]

    assert max(lengths) > predictor.window
    assert any(predictor.catalogue.find(s.clicks[-1]) is None for s in sessions)
    check_golden(predictor, sessions)


def test_only_differences_of_rounding_are_accepted(tmp_path: Path) -> None:
    golden = GoldenSession(["a"], ["x", "y", "z"], [3.0, 2.0, 2.0 - 1e-6])

    swapped = GoldenSession(["a"], ["x", "z", "y"], [3.0, 2.0, 2.0])
    assert difference(golden, swapped) is None
    assert "instead of 'x' at place 1" in str(
        difference(golden, GoldenSession(["a"], ["y", "x", "z"], [3.0, 2.0, 2.0]))
    )
    assert "place 2" in str(
        difference(golden, GoldenSession(["a"], ["x", "y", "z"], [3.0, 2.001, 2.0]))
    )
    nan = GoldenSession(["a"], ["x", "y", "z"], [float("nan")] * 3)
    assert difference(golden, nan) is not None
    assert "2 items instead of 3" in str(difference(golden, GoldenSession([], ["x"] * 2, [1] * 2)))
    write_golden(tmp_path / "g", [golden])
    assert read_golden(tmp_path / "g") == [golden]


def test_the_model_id_names_the_content(trained: TrainedShop, other_bundle: Path) -> None:
    first, other = open_predictor(trained.bundle).model_id, open_predictor(other_bundle).model_id

    assert first != other
    assert len(first) == 16


def test_exporting_the_same_weights_again_gives_the_same_id(
    predictor: Predictor, tmp_path: Path
) -> None:
    weights = Weights.fresh(ModelSize(200, 4), torch.Generator().manual_seed(0))
    export = Export(weights, predictor.catalogue, Recipe(hidden=4), {}, {}, [["aurora-tent"]])

    for name in ("a", "b"):
        write_bundle(tmp_path / name, export)

    assert open_predictor(tmp_path / "a").model_id == open_predictor(tmp_path / "b").model_id


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_the_item_matrix_is_mapped_not_copied(trained: TrainedShop) -> None:
    """Processes share one copy of the weights: the file itself."""
    predictor = open_predictor(trained.bundle)

    maps = Path("/proc/self/maps").read_text()
    assert str(trained.bundle / WEIGHTS) in maps
    assert np.isfinite(predictor.scores_along([np.array([1, 2])]).numpy()).all()
