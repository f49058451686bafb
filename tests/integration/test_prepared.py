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
    ways = {
        "direct": clicks,
        "mapped": ["--prepared", str(shop / "prepared")],
        "first": [*clicks, "--prepare-first"],
    }
    assert run(capsys, "prepare", *clicks, "--out", str(shop / "prepared"))[0] == 0

    said = {
        way: run(capsys, "train", *given, *items, *SHORT, "--out", str(shop / way))
        for way, given in ways.items()
    }

    assert {code for code, _, _ in said.values()} == {0}, said
    assert "they are prepared first, in" in said["first"][2]
    assert not (shop / "first.prepared").exists()
    files = {path.name for path in (shop / "direct").iterdir()}
    direct = json.loads((shop / "direct" / "manifest.json").read_text())
    for way in ("mapped", "first"):
        assert files == {path.name for path in (shop / way).iterdir()}
        for name in files - {"manifest.json", "report.html"}:  # they have the time of the run
            assert (shop / "direct" / name).read_bytes() == (shop / way / name).read_bytes(), name
        manifest = json.loads((shop / way / "manifest.json").read_text())
        assert manifest["training"] == direct["training"]
        assert manifest["metrics"] == direct["metrics"]


def test_of_many_cases_a_sample_is_evaluated_and_this_is_said(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, out = ["--clicks", str(shop / "clicks.csv")], shop / "sampled"

    code, _, said = run(
        capsys, "train", *clicks, *SHORT, "--set", "max_cases=40", "--out", str(out)
    )
    assert code == 0, said
    bundle = ["--bundle", str(out), *clicks]
    some = json.loads(run(capsys, "evaluate", *bundle, "--json", "--max-cases", "40")[1])
    every = json.loads(run(capsys, "evaluate", *bundle, "--json")[1])

    for part in ("validation", "test"):
        assert f"The {part} part has" in said
    assert "These cases are of a random sample of" in " ".join(said.split())
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["cases"] < metrics["sampled_from"] == every["cases"]
    assert "sampled_from" not in every
    for name in ("cases", "sampled_from", "model", "intervals"):
        assert some[name] == metrics[name]  # the same sample
    assert "random sample" in (out / "report.html").read_text()


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
