"""A shelf names one of its bundles, by a plain name, and is never found half-written."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from recsys.bundle.registry import (
    POINTER,
    bundle_of,
    destination,
    is_shelf,
    named,
    next_bundle,
    publish,
)
from recsys.errors import BadInput, BundleRefused
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.command_line import GOOD, run
from training import demo

NOON = datetime(2026, 1, 2, 12, 30, 5, tzinfo=UTC)


@pytest.fixture
def shelf(trained: TrainedShop, tmp_path: Path) -> Path:
    for name in ("one", "two"):
        shutil.copytree(trained.bundle, tmp_path / name)
    return tmp_path


def test_a_bundle_folder_is_itself(trained: TrainedShop) -> None:
    assert not is_shelf(trained.bundle)
    assert bundle_of(trained.bundle) == trained.bundle


def test_a_shelf_is_the_bundle_it_names(shelf: Path) -> None:
    for name in ("one", "two", "one"):
        publish(shelf, name)

        assert is_shelf(shelf)
        assert bundle_of(shelf) == shelf / name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../one", "a\0b", ".one", POINTER])
def test_only_plain_names_are_taken(shelf: Path, name: str) -> None:
    (shelf / POINTER).write_text(name)

    with pytest.raises(BundleRefused, match="is no name of a bundle"):
        bundle_of(shelf)
    with pytest.raises(BundleRefused, match="is no name of a bundle"):
        named(shelf, name)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 100_000])
def test_a_pointer_that_is_no_name_is_refused(shelf: Path, content: bytes) -> None:
    (shelf / POINTER).write_bytes(content)

    with pytest.raises(BundleRefused):
        bundle_of(shelf)


def test_what_is_no_bundle_is_not_named(shelf: Path) -> None:
    publish(shelf, "one")
    (shelf / "three").mkdir()

    with pytest.raises(BadInput, match="holds no bundle"):
        publish(shelf, "three")
    assert bundle_of(shelf) == shelf / "one"


def test_a_new_bundle_is_named_by_the_time(tmp_path: Path) -> None:
    assert next_bundle(tmp_path, NOON) == tmp_path / "20260102-123005"
    assert next_bundle(tmp_path, NOON, resume=True) == tmp_path / "20260102-123005"


def test_resuming_goes_on_with_the_unfinished_one(tmp_path: Path) -> None:
    (tmp_path / "20260101-000000.unfinished").mkdir()

    assert next_bundle(tmp_path, NOON, resume=True) == tmp_path / "20260101-000000"
    assert next_bundle(tmp_path, NOON) == tmp_path / "20260102-123005"


def test_a_bundle_goes_to_a_folder_or_to_a_shelf(tmp_path: Path) -> None:
    assert destination(tmp_path / "out", None) == tmp_path / "out"
    assert destination(None, tmp_path).parent == tmp_path
    for out, shelf in ((None, None), (tmp_path, tmp_path)):
        with pytest.raises(BadInput, match="--out FOLDER, or --publish SHELF"):
            destination(out, shelf)


def test_training_publishes_and_publishing_goes_back(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clicks.csv").write_text(GOOD)
    publish(shelf, "one")
    small = ("--set", "epochs=1", "--set", "hidden=8", "--clicks", str(tmp_path / "clicks.csv"))

    code, _, said = run(capsys, "train", *small, "--publish", str(shelf))

    assert code == 0, said
    assert bundle_of(shelf).parent == shelf
    assert bundle_of(shelf).name not in ("one", "two")
    assert run(capsys, "publish", str(shelf), "two")[0] == 0
    assert bundle_of(shelf) == shelf / "two"
    (shelf / "one" / "weights.safetensors").write_bytes(b"")
    code, _, said = run(capsys, "publish", str(shelf), "one")
    assert code == 2
    assert "sha256" in said
    assert bundle_of(shelf) == shelf / "two"


@pytest.mark.parametrize(
    "verb",
    [
        ("train", "--clicks", "clicks.csv", "--publish", "BUNDLE"),
        ("finetune", "--bundle", "BUNDLE", "--clicks", "clicks.csv", "--publish", "BUNDLE"),
        ("demo", "--publish", "BUNDLE"),
        ("publish", "BUNDLE", "two"),
    ],
    ids=lambda verb: verb[0],
)
def test_a_bundle_is_no_shelf_and_nothing_is_written_into_it(
    shelf: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    monkeypatch.chdir(shelf)
    (shelf / "clicks.csv").write_text(GOOD)
    bundle = shelf / "one"
    before = sorted(bundle.rglob("*"))

    code, _, said = run(capsys, *(str(bundle) if word == "BUNDLE" else word for word in verb))

    assert (code, said.count("\n")) == (2, 1), said
    assert f"{bundle} is a bundle, not a shelf of bundles" in said
    assert sorted(bundle.rglob("*")) == before


def test_the_demos_shelf_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / POINTER).write_text("anything")

    def train_demo(*_: object) -> None:
        raise AssertionError("a shelf that names a bundle is left alone")

    monkeypatch.setattr(demo, "train_demo", train_demo)

    demo.train_demo_shelf(tmp_path, Console(quiet=True))
