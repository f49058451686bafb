"""Commands on a prepared folder give what they give on the click log."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from data.click_options import ClickOptions
from data.prepared.run import in_memory, make_folder
from data.synthetic import write_shop
from recsys.bundle.load import load_bundle
from tests.support.training.command_line import run
from training.pipeline import TrainOptions, train
from training.recipe import Recipe

SHORT = ["--recipe", "default", "--device", "cpu"]
for _setting in ("epochs=1", "hidden=8", "negatives=16", "batch=16"):
    SHORT += ["--set", _setting]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, makers=1, sessions=300)
    return folder


@pytest.fixture(scope="module")
def ways(shop: Path) -> dict[str, list[str]]:
    """Return the options that give the same clicks as a log and as a prepared folder."""
    clicks, folder = ClickOptions(shop / "clicks.csv"), shop / "prepared"
    make_folder(folder, clicks, in_memory(clicks))
    return {"direct": ["--clicks", str(clicks.path)], "mapped": ["--prepared", str(folder)]}


@pytest.fixture(scope="module")
def bundle(shop: Path) -> Path:
    """Return a bundle of the shop."""
    recipe = Recipe(epochs=1, hidden=8, negatives=16, batch=16)
    options = TrainOptions(ClickOptions(shop / "clicks.csv"), shop / "bundle", recipe)
    return train(options, Console(quiet=True))


def files_of(bundle: Path) -> dict[str, bytes]:
    """Return the files without those that have the time of the run."""
    timed = {"manifest.json", "report.html"}
    return {path.name: path.read_bytes() for path in bundle.iterdir() if path.name not in timed}


def manifest_of(bundle: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return values


def test_all_ways_train_the_same_model(
    shop: Path, ways: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    items = ["--items", str(shop / "items.csv")]

    said = {
        way: run(capsys, "train", *given, *items, *SHORT, "--out", str(shop / way))
        for way, given in {**ways, "first": [*ways["direct"], "--prepare-first"]}.items()
    }

    assert {code for code, _, _ in said.values()} == {0}, said
    assert "they are prepared first, in" in said["first"][2]
    assert not (shop / "first.prepared").exists()
    direct = manifest_of(shop / "direct")
    for way in ("mapped", "first"):
        assert files_of(shop / way) == files_of(shop / "direct")
        for record in ("training", "metrics"):
            assert manifest_of(shop / way)[record] == direct[record]


def test_both_ways_continue_a_bundle_to_the_same_model(
    shop: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is of a day, and of two days that were appended; each one has a new item."""
    old = load_bundle(bundle).catalogue.item_ids
    days = [day_of(number, old[0]) for number in range(3)]
    for number, day in enumerate(days):
        day.to_csv(shop / f"day {number}.csv", index=False)
        options = ["--clicks", str(shop / f"day {number}.csv")]
        if number > 0:
            options += ["--append", str(shop / f"day {number - 1}")]
        options += ["--out", str(shop / f"day {number}")]
        assert run(capsys, "prepare", *options)[0] == 0
    together = pd.concat(days).assign(part=["train"] * 120 + ["test"] * 60)
    together.to_csv(shop / "all.csv", index=False)
    given = {
        "continued": ["--clicks", str(shop / "all.csv"), "--split-column", "part"],
        "continued mapped": ["--prepared", str(shop / "day 2")],
    }

    for name, clicks in given.items():
        code, _, said = run(
            capsys, "finetune", "--bundle", str(bundle), *clicks, "--out", str(shop / name)
        )
        assert code == 0, said

    assert files_of(shop / "continued mapped") == files_of(shop / "continued")
    assert tuple(load_bundle(shop / "continued mapped").catalogue.item_ids) == (
        *old,
        "new 0",
        "new 1",
    )
    manifests = [manifest_of(shop / name) for name in given]
    for record in ("training", "metrics"):
        assert manifests[0][record] == manifests[1][record]


def day_of(day: int, old: str) -> pd.DataFrame:
    """Return 20 sessions of three clicks: on an item that is new that day, and on an old one."""
    rows = [
        (f"{day}-{s}", item, 2_000_000_000 + 86_400 * day + s)
        for s in range(20)
        for item in (f"new {day}", old, f"new {day}")
    ]
    return pd.DataFrame(rows, columns=["session_id", "item_id", "timestamp"])


def test_both_ways_evaluate_alike(
    ways: dict[str, list[str]], bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        json.loads(run(capsys, "evaluate", "--bundle", str(bundle), *given, "--json")[1])
        for given in ways.values()
    ]

    for result in results:
        del result["latency_ms"]
    assert results[0] == results[1]
    assert results[0]["baselines"]


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
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--out", "out"],
        ["finetune", "--bundle", "b", "--out", "out"],
        ["evaluate", "--bundle", "b"],
    ],
    ids=lambda command: command[0],
)
def test_clicks_or_a_prepared_folder_must_be_given(
    command: list[str],
    given: list[str],
    message: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").symlink_to(bundle)

    code, _, error = run(capsys, *command, *given)

    assert code == 2
    assert message in error


@pytest.mark.parametrize("command", [["finetune", "--out", "out"], ["evaluate"]])
def test_a_damaged_folder_is_refused(
    command: list[str],
    ways: dict[str, list[str]],
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(ways["mapped"][1], tmp_path / "prepared")
    damaged = bytearray((folder / "train.items.i32").read_bytes())
    damaged[0] ^= 1
    (folder / "train.items.i32").write_bytes(damaged)
    given = ["--bundle", str(bundle), "--prepared", str(folder)]

    code, _, error = run(capsys, *command, *given)

    assert code == 2
    assert "train.items.i32 is damaged: its digest differs" in error


def test_prepared_clicks_have_a_test_part(
    ways: dict[str, list[str]], bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(
        capsys, "evaluate", "--bundle", str(bundle), *ways["mapped"], "--all-sessions"
    )

    assert code == 2
    assert "--all-sessions tests on every session of --clicks" in error
