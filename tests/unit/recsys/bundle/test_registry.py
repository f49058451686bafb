"""A model registry names its current version by a plain name, never half-written."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from recsys.bundle.registry import (
    CURRENT_VERSION,
    bundle_path,
    is_registry,
    next_bundle,
    output_folder,
    publish,
    resolve_bundle,
)
from recsys.errors import BadInput, BundleRefused
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.command_line import GOOD, run
from training import demo

NOON = datetime(2026, 1, 2, 12, 30, 5, tzinfo=UTC)


@pytest.fixture
def registry(trained: TrainedShop, tmp_path: Path) -> Path:
    for name in ("one", "two"):
        shutil.copytree(trained.bundle, tmp_path / name)
    return tmp_path


def test_a_bundle_folder_resolves_to_itself(trained: TrainedShop) -> None:
    assert not is_registry(trained.bundle)
    assert resolve_bundle(trained.bundle) == trained.bundle


def test_a_registry_resolves_to_its_current_version(registry: Path) -> None:
    for name in ("one", "two", "one"):
        publish(registry, name)

        assert is_registry(registry)
        assert resolve_bundle(registry) == registry / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "../one", "a\0b", ".one", CURRENT_VERSION]
)
def test_only_plain_names_are_taken(registry: Path, name: str) -> None:
    (registry / CURRENT_VERSION).write_text(name)

    with pytest.raises(BundleRefused, match=r"is not the name of a bundle|it names no bundle"):
        resolve_bundle(registry)
    with pytest.raises(BundleRefused, match="is not the name of a bundle"):
        bundle_path(registry, name)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 100_000])
def test_a_current_version_that_is_not_a_name_is_refused(registry: Path, content: bytes) -> None:
    (registry / CURRENT_VERSION).write_bytes(content)

    with pytest.raises(BundleRefused):
        resolve_bundle(registry)


def test_only_a_bundle_can_be_published(registry: Path) -> None:
    publish(registry, "one")
    (registry / "three").mkdir()

    with pytest.raises(BadInput, match="holds no bundle"):
        publish(registry, "three")
    assert resolve_bundle(registry) == registry / "one"


def test_a_new_bundle_is_named_by_the_time(tmp_path: Path) -> None:
    assert next_bundle(tmp_path, NOON) == tmp_path / "20260102-123005"
    assert next_bundle(tmp_path, NOON, resume=True) == tmp_path / "20260102-123005"


def test_resuming_continues_the_unfinished_bundle(tmp_path: Path) -> None:
    (tmp_path / "20260101-000000.unfinished").mkdir()

    assert next_bundle(tmp_path, NOON, resume=True) == tmp_path / "20260101-000000"
    assert next_bundle(tmp_path, NOON) == tmp_path / "20260102-123005"


def test_a_bundle_goes_to_a_folder_or_to_a_registry(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "out", None) == tmp_path / "out"
    assert output_folder(None, tmp_path).parent == tmp_path
    for out, registry in ((None, None), (tmp_path, tmp_path)):
        with pytest.raises(BadInput, match="--out FOLDER, or --publish REGISTRY"):
            output_folder(out, registry)


def test_training_publishes_and_an_older_bundle_can_be_published_again(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clicks.csv").write_text(GOOD)
    publish(registry, "one")
    small = ("--set", "epochs=1", "--set", "hidden=8", "--clicks", str(tmp_path / "clicks.csv"))

    code, _, message = run(capsys, "train", *small, "--publish", str(registry))

    assert code == 0, message
    assert resolve_bundle(registry).parent == registry
    assert resolve_bundle(registry).name not in ("one", "two")
    assert run(capsys, "publish", str(registry), "two")[0] == 0
    assert resolve_bundle(registry) == registry / "two"
    (registry / "one" / "weights.safetensors").write_bytes(b"")
    code, _, message = run(capsys, "publish", str(registry), "one")
    assert code == 2
    assert "sha256" in message
    assert resolve_bundle(registry) == registry / "two"


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
def test_a_bundle_is_not_a_registry_and_nothing_is_written_into_it(
    registry: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    monkeypatch.chdir(registry)
    (registry / "clicks.csv").write_text(GOOD)
    bundle = registry / "one"
    before = sorted(bundle.rglob("*"))

    code, _, message = run(capsys, *(str(bundle) if word == "BUNDLE" else word for word in verb))

    assert (code, message.count("\n")) == (2, 1), message
    assert f"{bundle} is a bundle, not a model registry" in message
    assert sorted(bundle.rglob("*")) == before


def test_the_registry_of_the_demo_is_filled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CURRENT_VERSION).write_text("anything")

    def train_demo(*_: object) -> None:
        raise AssertionError("a registry with a current version is left alone")

    monkeypatch.setattr(demo, "train_demo", train_demo)

    demo.train_demo_registry(tmp_path, Console(quiet=True))
