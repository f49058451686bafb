"""`recsys train` without --recipe: recipes compete, and the bundle says how each of them ended."""

from pathlib import Path

import pytest

from recsys.bundle.layout import REPORT, WEIGHTS
from recsys.bundle.manifest import read_manifest
from tests.support.training.command_line import GOOD, run
from training.checkpoint import CHECKPOINT
from training.competition.rivals import DEFAULT, INCUMBENT_OF_SMALL_LOGS, OTHERS

# 60 sessions: six to test on, and of the others 27 to validate on
MANY = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s + c) % 5},{100 * s + c}\n" for s in range(60) for c in range(3)
)
HALF = ["--set", "validation=0.5"]
SMALL = [part for setting in ("hidden=8", "epochs=3", "negatives=6") for part in ("--set", setting)]


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    file = tmp_path / "clicks.csv"
    file.write_text(GOOD)
    return file


def train(
    capsys: pytest.CaptureFixture[str], clicks: Path, out: Path, *options: str
) -> tuple[int, str]:
    code, _, said = run(capsys, "train", "--clicks", str(clicks), "--out", str(out), *options)
    return code, said


def test_the_bundle_holds_the_winner_and_what_was_tried(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    clicks.write_text(MANY)
    code, said = train(capsys, clicks, tmp_path / "auto", *SMALL, *HALF, "--budget", "4x")
    assert code == 0, said

    manifest = read_manifest(tmp_path / "auto")
    tried = {row["recipe"]: row for row in manifest.training["tried"]}
    winner = manifest.training["recipe"]
    assert set(tried) == {DEFAULT, *OTHERS}
    assert tried[winner]["outcome"] == "chosen"
    assert manifest.training["budget"] == "4x"
    page = (tmp_path / "auto" / REPORT).read_text()
    assert f"with recipe {winner}." in page
    for name, row in tried.items():
        assert f'<th scope="row">{name}</th>' in page
        assert row["outcome"] in page
        assert row["outcome"] in said

    code, shown, _ = run(capsys, "inspect", str(tmp_path / "auto"))
    assert (code, f"recipe {winner}" in shown) == (0, True)

    code, said = train(capsys, clicks, tmp_path / "alone", *SMALL, *HALF, "--recipe", winner)
    assert code == 0, said
    alone = read_manifest(tmp_path / "alone")
    assert {**alone.recipe, "blend": "auto"} == manifest.recipe
    assert "tried" not in alone.training
    assert (tmp_path / "alone" / WEIGHTS).read_bytes() == (tmp_path / "auto" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("small", [["--set", "validation=0.0"], []])
def test_without_validation_sessions_the_incumbent_is_trained(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path, small: list[str]
) -> None:
    if not small:
        clicks.write_text("".join(GOOD.splitlines(keepends=True)[:31]))  # ten sessions, one tested
    code, said = train(capsys, clicks, tmp_path / "out", *SMALL, *small)

    assert code == 0, said
    assert (
        "Recipes compete on at least 20 validation sessions, and there are 0: recipe bpr-max is "
        "trained, the incumbent of logs of this size."
    ) in " ".join(said.split())
    assert read_manifest(tmp_path / "out").training["recipe"] == INCUMBENT_OF_SMALL_LOGS


@pytest.mark.parametrize(("sessions", "competes"), [(1, False), (19, False), (20, True)])
def test_recipes_compete_on_twenty_validation_sessions_or_more(
    capsys: pytest.CaptureFixture[str],
    clicks: Path,
    tmp_path: Path,
    sessions: int,
    competes: bool,
) -> None:
    parts = ["train"] * 20 + ["valid"] * sessions + ["test"] * 3
    rows = [
        f"s{s},i{(s + c) % 5},{100 * s + c},{part}" for s, part in enumerate(parts) for c in (0, 1)
    ]
    clicks.write_text("\n".join(["session_id,item_id,timestamp,part", *rows]) + "\n")
    code, said = train(capsys, clicks, tmp_path / "out", *SMALL, "--split-column", "part")

    assert code == 0, said
    about = read_manifest(tmp_path / "out").training
    assert ("tried" in about) is competes
    sentence = f"and there are {sessions}: recipe bpr-max is trained"
    assert (sentence in " ".join(said.split())) is not competes
    if not competes:
        assert about["recipe"] == INCUMBENT_OF_SMALL_LOGS


@pytest.mark.parametrize(
    ("file", "options", "owner"),
    [
        (CHECKPOINT, [], "one recipe"),
        (f"bpr-max/{CHECKPOINT}", ["--recipe", "default"], "--recipe auto"),
    ],
)
def test_one_kind_of_run_does_not_resume_the_other(
    capsys: pytest.CaptureFixture[str],
    clicks: Path,
    tmp_path: Path,
    file: str,
    options: list[str],
    owner: str,
) -> None:
    clicks.write_text(MANY)
    other = tmp_path / "out.unfinished" / file
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    code, said = train(capsys, clicks, tmp_path / "out", *SMALL, *HALF, *options, "--resume")

    assert code == 2
    assert f"{file} belongs to a run with {owner}" in " ".join(said.split())


def test_a_run_that_fails_before_its_first_epoch_leaves_nothing(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    lines = GOOD.splitlines()
    late = [line.replace(",i", ",new") for line in lines[-33:]]  # validation and test part
    clicks.write_text("\n".join([*lines[:-33], *late]) + "\n")
    code, said = train(capsys, clicks, tmp_path / "out", *SMALL)

    assert code == 2
    assert "The validation part cannot be used" in said
    assert not (tmp_path / "out.unfinished").exists()


def test_a_wrong_budget_is_refused(
    capsys: pytest.CaptureFixture[str], clicks: Path, tmp_path: Path
) -> None:
    code, said = train(capsys, clicks, tmp_path / "out", "--budget", "much")

    assert code == 2
    assert "--budget cannot be used" in said
