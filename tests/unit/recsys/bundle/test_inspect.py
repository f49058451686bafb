"""`recsys inspect` describes a bundle, and never calls a broken one verified."""

import json
import shutil
from pathlib import Path

import pytest

from recsys.bundle.layout import MANIFEST
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import CURRENT_VERSION, publish
from recsys.predictor import Predictor
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.command_line import run

TENT = "aurora-tent"


@pytest.fixture
def registry(trained: TrainedShop, other_bundle: Path, tmp_path: Path) -> Path:
    for name, bundle in {"one": trained.bundle, "two": other_bundle}.items():
        shutil.copytree(bundle, tmp_path / name)
    publish(tmp_path, "two")
    return tmp_path


def test_everything_of_the_manifest_is_in_the_json(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, predictor: Predictor
) -> None:
    code, out, err = run(
        capsys, "inspect", str(trained.bundle), "--item", TENT, "--k", "3", "--json"
    )

    assert (code, err) == (0, "")
    facts = json.loads(out)
    manifest = json.loads((trained.bundle / MANIFEST).read_text())
    digests = manifest.pop("files")
    assert manifest.items() <= facts.items()
    files = facts["files"]
    assert {name: file["sha256"] for name, file in files.items() if name != MANIFEST} == digests
    assert all(f["bytes"] == (trained.bundle / n).stat().st_size for n, f in files.items())
    assert (facts["verified"], facts["problem"]) == (True, None)
    assert facts["items"]["count"] == 200
    assert facts["items"]["attributes"] == ["brand", "category", "name"]
    first = predictor.catalogue.item_ids[int(predictor.catalogue.by_popularity[0])]
    assert facts["items"]["most_clicked"][0]["item_id"] == first
    assert len(facts["nearest"]["items"]) == 3
    assert TENT not in [near["item_id"] for near in facts["nearest"]["items"]]
    assert "shelf" not in facts


def test_the_text_shows_files_figures_recipe_and_neighbours(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop
) -> None:
    code, out, _ = run(capsys, "inspect", str(trained.bundle), "--item", TENT)

    manifest = read_manifest(trained.bundle)
    assert code == 0
    for text in (
        f"Model {manifest.model_id} in {trained.bundle}",
        "200, with brand, category, name",
        "1 gru layer of 32 units, shared items, cosine scores × 16",
        "Every item is scored exactly.",
        "all digests fit",
        "weights.safetensors",
        f"{manifest.metrics['model']['recall@20']:.4f}",
        "hidden=32  layers=1",
        f"Nearest to {TENT}",
    ):
        assert text in out, text


def test_all_bundles_of_a_registry_are_listed_and_the_current_one_is_inspected(
    capsys: pytest.CaptureFixture[str], registry: Path
) -> None:
    code, out, _ = run(capsys, "inspect", str(registry))
    assert code == 0
    assert "two (current)" in out
    unwrapped = "".join(out.split())
    assert f"Model{read_manifest(registry / 'two').model_id}in{registry / 'two'}" in unwrapped
    (registry / "one" / MANIFEST).write_text("no JSON")

    code, out, _ = run(capsys, "inspect", str(registry), "--json")

    assert code == 0
    one, two = json.loads(out)["shelf"]
    assert (one["name"], one["current"], one["model_id"]) == ("one", False, None)
    assert "is not readable JSON" in one["problem"]
    assert (two["name"], two["current"], two["problem"]) == ("two", True, None)


def test_a_damaged_bundle_is_described_and_refused(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, tmp_path: Path
) -> None:
    broken = shutil.copytree(trained.bundle, tmp_path / "broken")
    (broken / "items.parquet").unlink()
    (broken / "golden.jsonl").write_text("{}")

    code, out, err = run(capsys, "inspect", str(broken))
    assert code == 2
    assert "missing" in out
    assert "verified" in out
    assert "golden.jsonl" in out
    assert "items.parquet is missing" in err or "has the sha256" in err
    code, out, err = run(capsys, "inspect", str(broken), "--json")
    assert code == 2
    assert json.loads(out)["verified"] is False
    assert json.loads(out)["items"] is None
    assert json.loads(out)["problem"] in err
    code, _, err = run(capsys, "inspect", str(broken), "--item", TENT)
    assert code == 2
    assert "--item cannot be looked up" in err


def test_the_reason_is_given_where_nothing_can_be_inspected(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop, registry: Path, tmp_path: Path
) -> None:
    cases = {
        (str(tmp_path / "none"),): "There is no bundle folder",
        (str(trained.bundle), "--item", "nothing"): "'nothing' is not in the catalogue",
    }
    for arguments, sentence in cases.items():
        code, _, err = run(capsys, "inspect", *arguments)
        assert (code, sentence in err) == (2, True), err
    (registry / CURRENT_VERSION).write_text("../elsewhere")
    code, out, err = run(capsys, "inspect", str(registry))
    assert code == 2
    assert "(current)" not in out
    assert "is not the name of a bundle" in err
