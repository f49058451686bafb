"""Training on a prepared folder gives the bundle of training on the click log."""

import json
from pathlib import Path

import pytest

from data.synthetic import write_shop
from tests.support.training.command_line import run

SHORT = ["--recipe", "default", "--device", "cpu"]
for _setting in ("epochs=1", "hidden=8", "negatives=16", "batch=16"):
    SHORT += ["--set", _setting]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, makers=1, sessions=300)
    return folder


def test_both_ways_train_the_same_model(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clicks, items = ["--clicks", str(shop / "clicks.csv")], ["--items", str(shop / "items.csv")]
    ways = {"direct": clicks, "mapped": ["--prepared", str(shop / "prepared")]}
    assert run(capsys, "prepare", *clicks, "--out", str(shop / "prepared"))[0] == 0

    said = {
        way: run(capsys, "train", *given, *items, *SHORT, "--out", str(shop / way))
        for way, given in ways.items()
    }

    assert {code for code, _, _ in said.values()} == {0}, said
    files = {path.name for path in (shop / "direct").iterdir()}
    assert files == {path.name for path in (shop / "mapped").iterdir()}
    for name in files - {"manifest.json", "report.html"}:  # they have the time of the run
        assert (shop / "direct" / name).read_bytes() == (shop / "mapped" / name).read_bytes(), name
    manifests = [json.loads((shop / way / "manifest.json").read_text()) for way in ways]
    assert manifests[0]["training"] == manifests[1]["training"]
    assert manifests[0]["metrics"] == manifests[1]["metrics"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "neither of --clicks and --prepared were given"),
        (["--clicks", "c.csv", "--prepared", "p"], "both of --clicks and --prepared were given"),
        (["--prepared", "p", "--min-length", "3"], "--min-length say how --clicks is read"),
        (["--prepared", "nowhere"], "nowhere does not exist"),
    ],
)
def test_clicks_or_a_prepared_folder_must_be_given(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "train", *given, "--out", str(tmp_path / "out"))

    assert code == 2
    assert message in error
