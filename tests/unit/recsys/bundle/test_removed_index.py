"""A bundle with an index of a removed kind still loads, and is served with exact scoring."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import INDEX
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import read_manifest
from recsys.retrieval.candidates import REMOVED_KINDS
from recsys.retrieval.exact import describe_retrieval
from tests.support.bundles.broken_bundles import edit_manifest, sign
from tests.support.bundles.trained_shop import TrainedShop
from tests.unit.recsys.bundle.test_load import refused


@pytest.fixture(params=REMOVED_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old_bundle(kind: str, trained: TrainedShop, tmp_path: Path) -> Path:
    """Return a copy of a bundle, with the manifest and the file of a removed index."""
    bundle = Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))
    (bundle / INDEX).write_bytes(b"an index in a format that is no longer read")

    def add_index(manifest: dict[str, Any]) -> None:
        manifest["files"][INDEX] = ""
        manifest["retrieval"] = {
            "kind": kind,
            "index": {"kind": kind, "bias_unit": 16.0, "probes": 8 if kind == "ivf" else 0},
            "recall": {"0": 0.995},
            "states": 2000,
            "refused": {"lists": 0.9},
        }

    edit_manifest(bundle, add_index)
    sign(bundle)
    return bundle


def test_its_lists_equal_the_exact_ones(old_bundle: Path, trained: TrainedShop) -> None:
    exact = open_predictor(trained.bundle).with_exact_retrieval()
    old = open_predictor(old_bundle)

    for item in range(100):
        assert old.recommend([item, 7]) == exact.recommend([item, 7])


def test_the_log_names_the_removed_kind(
    old_bundle: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="recsys"):
        assert load_bundle(old_bundle).index is None

    assert f"an index of the removed kind {kind}" in caplog.text
    assert "Export the bundle anew" in caplog.text


def test_the_digest_of_the_index_file_is_checked(old_bundle: Path) -> None:
    (old_bundle / INDEX).write_bytes(b"changed")

    assert "retrieval.index has the sha256" in refused(old_bundle)


def test_its_description_says_that_items_are_scored_exactly(old_bundle: Path, kind: str) -> None:
    text = describe_retrieval(read_manifest(old_bundle).retrieval)

    assert text.startswith(f"Every item is scored exactly: the index kind {kind} was removed.")
