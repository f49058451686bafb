"""Bundles of every cell, embedding and score: consistency of the parts, and the model id."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import ITEMS, MANIFEST, WEIGHTS
from recsys.bundle.load import model_id_of
from recsys.model.gru4rec import ModelSize
from tests.support.bundles.broken_bundles import edit_manifest, sign
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.bundles.trained_shop import TrainedShop
from tests.unit.recsys.bundle.test_load import refused


@pytest.fixture
def bundle(trained: TrainedShop, tmp_path: Path) -> Path:
    """Return a copy of the bundle of a GRU to break."""
    return Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))


def test_format_1_is_read_as_the_gru_it_was_under_its_old_id(
    model_kinds: ModelKinds, tmp_path: Path
) -> None:
    """It had three sizes, and its id was made of digests and window alone."""
    bundle = Path(shutil.copytree(model_kinds.bundle("gru shared"), tmp_path / "bundle"))
    now = open_predictor(bundle)
    sizes = {"items": len(now.catalogue), "hidden": 8, "layers": 1}
    edit_manifest(bundle, lambda m: m.update(format_version=1, size=sizes))
    files = json.loads((bundle / MANIFEST).read_text())["files"]

    old = open_predictor(bundle)

    content = files[WEIGHTS] + files[ITEMS] + "3"
    assert old.model_id == hashlib.sha256(content.encode()).hexdigest()[:16] == now.model_id
    assert old.recommend([3, 4]) == now.recommend([3, 4])


def test_a_model_with_another_state_is_refused(bundle: Path) -> None:
    """Signed as the LSTM it is not, or with a layer too many."""
    edit_manifest(bundle, lambda m: m["size"].update(cell="lstm"))
    sign(bundle)
    assert "does not have the state (1, 1, 64) of the manifest's 1 lstm layer" in refused(bundle)

    edit_manifest(bundle, lambda m: m["size"].update(cell="gru", layers=2))
    sign(bundle)
    assert "does not have the state (2, 1, 32)" in refused(bundle)


@pytest.mark.parametrize("kind", ["lstm separate", "gru none"])
def test_the_input_table_is_there_and_of_its_size_or_refused(
    model_kinds: ModelKinds, tmp_path: Path, kind: str
) -> None:
    bundle = Path(shutil.copytree(model_kinds.bundle(kind), tmp_path / "bundle"))
    weights = load_file(bundle / WEIGHTS)
    inputs = weights.pop("inputs")
    for wrong in ({}, {"inputs": inputs[:, :-1].contiguous()}, {"inputs": inputs[:-1]}):
        save_file({**weights, **wrong}, bundle / WEIGHTS)
        sign(bundle)
        assert "item matrix, bias and input table" in refused(bundle)

    inputs[0, 0] = float("inf")
    save_file({**weights, "inputs": inputs}, bundle / WEIGHTS)
    sign(bundle)
    assert "NaN or infinite" in refused(bundle)


def test_cosine_bundles_hold_vectors_of_length_one(model_kinds: ModelKinds) -> None:
    """Vectors of items are normalised; rows of one-hot inputs are weights and are not."""
    for kind, tables in (
        ("lstm separate cosine", ("matrix", "inputs")),
        ("gru none cosine", ("matrix",)),
    ):
        weights = load_file(model_kinds.bundle(kind) / WEIGHTS)
        for table in tables:
            torch.testing.assert_close(weights[table].norm(dim=1), torch.ones(200))
    assert weights["inputs"].norm(dim=1).std() > 0.01


def test_the_model_id_changes_with_all_that_changes_answers() -> None:
    """The same files read with another cell, embedding or scale are another model."""
    files = {WEIGHTS: "aa", ITEMS: "bb"}
    sizes = [
        ModelSize(9, 4),
        ModelSize(9, 4, cell="gru-reset-before"),
        ModelSize(9, 4, embedding="separate"),
        ModelSize(9, 4, embedding="separate", embedding_width=4),
        ModelSize(9, 4, scale=4.0),
        ModelSize(9, 4, scale=8.0),
    ]

    ids = {model_id_of(files, 50, size) for size in sizes} | {model_id_of(files, 49, sizes[0])}

    assert len(ids) == len(sizes) + 1
