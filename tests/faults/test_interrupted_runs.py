"""However `recsys train` ends, `--resume` ends with the weights of an uninterrupted run."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.training.trainers import CLICKS, TrainingRun

MOST_KILLS = 6


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("log") / "clicks.csv"
    file.write_text(CLICKS)
    return file


@pytest.fixture(scope="module")
def whole(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the weights of an uninterrupted run."""
    return TrainingRun(clicks, tmp_path_factory.mktemp("whole") / "out").finish()


@pytest.fixture
def run(clicks: Path, tmp_path: Path) -> TrainingRun:
    return TrainingRun(clicks, tmp_path / "out")


@pytest.fixture
def killed(run: TrainingRun) -> TrainingRun:
    """Return a run that was killed after its first checkpoint."""
    started = run.start()
    started.wait_for_a_checkpoint()
    started.send(signal.SIGKILL)
    assert started.ended() == -signal.SIGKILL, started.text
    return run


def test_two_runs_with_one_seed_are_identical(run: TrainingRun, whole: bytes) -> None:
    assert run.finish() == whole


def test_kill_9_at_random_moments_changes_nothing(killed: TrainingRun, whole: bytes) -> None:
    moments = random.Random(1)
    for _ in range(MOST_KILLS):
        started = killed.start("--resume")
        started.wait_for_a_checkpoint()
        time.sleep(moments.uniform(0, 0.05))
        started.send(signal.SIGKILL)
        started.ended()
        if killed.weights.exists():  # the run ended before the kill
            break

    ended = killed.weights.read_bytes() if killed.weights.exists() else killed.finish()
    assert ended == whole


def test_a_kill_in_the_middle_of_a_checkpoint_leaves_the_one_before(
    killed: TrainingRun, whole: bytes
) -> None:
    saved, files = killed.saved(), killed.files()
    assert saved is not None

    torn = killed.start("--resume", disk=len(saved) // 2, mortal=True)

    assert torn.ended() == -signal.SIGXFSZ, torn.text
    assert len(killed.files() - files) == 1, "the half-written one"
    assert killed.saved() == saved
    assert killed.finish() == whole


def test_a_disk_that_fills_up_loses_nothing_that_was_saved(
    killed: TrainingRun, whole: bytes
) -> None:
    saved, files = killed.saved(), killed.files()
    assert saved is not None

    full = killed.start("--resume", disk=len(saved) // 2)

    assert full.ended() == 2
    assert "cannot be written" in full.text
    assert "The previous content is kept" in full.text
    assert killed.saved() == saved
    assert killed.files() == files
    assert killed.finish() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_names_the_way_to_resume(
    run: TrainingRun, whole: bytes, number: signal.Signals
) -> None:
    started = run.start()
    started.wait_for_a_checkpoint()
    saved = run.saved()
    started.send(number)

    assert started.ended() == 130
    assert "go on with the same command and --resume" in started.text.replace("\n", " ")
    assert run.saved() != saved
    assert run.finish() == whole


def test_a_diverged_loss_names_step_rate_and_remedy(clicks: Path, tmp_path: Path) -> None:
    run = TrainingRun(clicks, tmp_path / "out", ("hidden=8", "learning_rate=1e38"))

    started = run.start()

    assert started.ended() == 2
    for words in ("NaN or infinite", "step", "learning_rate=1e+38", "--set clip=1.0"):
        assert words in started.text.replace("\n", " ")
    assert not run.out.exists()


# of the automatic recipe: the first epochs of each challenger and a few more
SHORT = ("epochs=5", "patience=5", "hidden=32", "batch=16", "negatives=32")


@pytest.mark.long
def test_a_competition_of_recipes_that_is_killed_and_stopped_ends_as_one_that_was_not(
    clicks: Path, tmp_path: Path
) -> None:
    whole = TrainingRun(clicks, tmp_path / "whole", SHORT, "auto").finish()
    run = TrainingRun(clicks, tmp_path / "out", SHORT, "auto")
    moments = random.Random(1)
    for number in (signal.SIGKILL, signal.SIGINT) * (MOST_KILLS // 2):
        started = run.start("--resume")
        time.sleep(moments.uniform(0.3, 1.5))
        started.send(number)
        started.ended()
        if run.weights.exists():
            break

    ended = run.weights.read_bytes() if run.weights.exists() else run.finish()
    assert ended == whole
