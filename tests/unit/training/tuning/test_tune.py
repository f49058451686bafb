"""`recsys tune` from the command line: its refusals, its output, its files."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.errors import BadInput
from tests.support.training.command_line import GOOD, run
from training.tuning.tune import seconds_of

SMALL = [
    "--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8", "--set", "batch=8",
]  # fmt: skip


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(GOOD)
    return path


def tune(
    capsys: pytest.CaptureFixture[str], clicks: Path, out: Path, trials: int, *more: str
) -> tuple[int, str, str]:
    given = ["--clicks", str(clicks), "--out", str(out), "--trials", str(trials), *SMALL, *more]
    return run(capsys, "tune", *given)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_study_ends_with_a_recipe_that_trains(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"

    code, _, err = tune(capsys, clicks, out, 10)

    assert code == 0, err
    text = " ".join(err.split())
    assert "Tuning mrr@20 on the last 10% of the training sessions." in text
    assert "No trial sees the test part, 3 sessions." in text
    assert err.count("\ntrial ") == 10
    assert "Best of 10 trials" in text
    assert f"--recipe {out / 'best.toml'}" in err
    assert sorted(p.name for p in out.iterdir()) == [
        "best.toml", "study.db", "study.lock", "trials.csv",
    ]  # fmt: skip
    head = (out / "best.toml").read_text()
    assert f"#   recsys tune --clicks {clicks}" in head
    assert "# Base: default epochs=1" in head
    code, _, err = run(
        capsys, "train", "--clicks", str(clicks), "--recipe", str(out / "best.toml"),
        "--out", str(tmp_path / "bundle"),
    )  # fmt: skip
    assert code == 0, err


def test_the_test_part_changes_nothing(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    """The last 3 of 30 sessions are the test: others click other items, one of them new."""
    header, *lines = GOOD.splitlines()
    others = [line.replace(",i", ",new") if line.startswith("s29,") else line for line in lines]
    others = [r.replace(",i1,", ",i4,") if r[:3] in ("s27", "s28") else r for r in others]
    assert others[: 27 * 3] == lines[: 27 * 3]
    other = tmp_path / "other.csv"
    other.write_text("\n".join([header, *others]) + "\n")

    assert tune(capsys, clicks, tmp_path / "a", 3)[0] == 0
    assert tune(capsys, other, tmp_path / "b", 3)[0] == 0

    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    code, _, err = tune(capsys, other, tmp_path / "a", 4, "--resume")
    assert (code, len(rows(tmp_path / "a"))) == (0, 4), err


def test_a_study_is_resumed_only_with_the_option(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    assert tune(capsys, clicks, tmp_path / "study", 1)[0] == 0

    code, _, err = tune(capsys, clicks, tmp_path / "study", 2)

    assert code == 2
    assert "A study is there" in err
    assert "--resume" in err
    assert len(rows(tmp_path / "study")) == 1


def test_another_study_is_not_resumed(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "study", tmp_path / "other.csv"
    other.write_text(GOOD.replace("s3,i4", "s3,i0"))
    assert tune(capsys, clicks, out, 1)[0] == 0

    code, _, err = tune(
        capsys, other, out, 2, "--resume", "--seed", "2", "--space", "published",
        "--set", "layers=2",
    )  # fmt: skip

    assert code == 2
    assert "it was begun with other clicks" in err
    assert "its recipe is another: layers 1 there, 2 here." in err
    assert "its space is another" in err
    assert "its seed is another: 1 there, 2 here." in err
    assert len(rows(out)) == 1


def test_workers_share_a_study(
    capfd: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    """The first process shows the trials of both, and the others print nothing."""
    out = tmp_path / "study"

    code, _, err = tune(capfd, clicks, out, 6, "--workers", "2")

    assert code == 0, err
    assert [row["trial"] for row in rows(out)] == ["0", "1", "2", "3", "4", "5"]
    assert err.count("What was read") == 1
    assert sorted(line[:8] for line in err.splitlines() if line.startswith("trial ")) == [
        f"trial {number}:" for number in range(6)
    ]
    code, _, err = tune(capfd, clicks, out, 8, "--workers", "2", "--resume")
    assert (code, len(rows(out))) == (0, 8), err


def test_prepared_clicks_give_the_same_trials(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    prepared, recipe = tmp_path / "prepared", tmp_path / "b" / "best.toml"
    assert run(capsys, "prepare", "--clicks", str(clicks), "--out", str(prepared))[0] == 0
    assert tune(capsys, clicks, tmp_path / "a", 3)[0] == 0

    code, _, err = run(
        capsys, "tune", "--prepared", str(prepared), "--out", str(tmp_path / "b"),
        "--trials", "3", *SMALL,
    )  # fmt: skip

    assert code == 0, err
    assert rows(tmp_path / "b") == rows(tmp_path / "a")
    assert f"recsys train --prepared {prepared} --recipe {recipe}" in err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--time-limit", "soon"], "--time-limit cannot be used: got 'soon'. Write 2h"),
        (["--space", "quik"], "there is no space 'quik'. Did you mean quick?"),
        (["--set", "validation=0"], "Trials cannot be compared: validation is 0"),
        (["--set", "epoch=3"], "epoch is not a setting. Did you mean epochs?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_named_and_leave_no_folder(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path, more: list[str], sentence: str
) -> None:
    code, _, err = tune(capsys, clicks, tmp_path / "study", 1, *more)

    assert code == 2
    assert sentence in err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("1h30m", 5400), ("90m", 5400), ("45s", 45), ("600", 600), ("1h1m1s", 3661)],
)
def test_a_time_limit_is_a_duration_in_words(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "h", "2 days", "-3", "1.5h"])
def test_an_invalid_time_limit_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--time-limit cannot be used"):
        seconds_of(text)


def test_training_needs_no_optuna() -> None:
    code = "import sys; sys.modules['optuna'] = None; import training.pipeline, recsys.cli.app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
