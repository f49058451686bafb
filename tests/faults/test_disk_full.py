"""Full disk: one sentence, exit code 2, and the earlier checkpoint stays.

A limit of the file size simulates the full disk.
"""

from pathlib import Path

import pytest

from tests.support.training.trainers import TrainingRun

CLICKS = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s * 7 + c) % 500},{100 * s + c}\n" for s in range(300) for c in range(3)
)
FULL_AT_BYTES = 100_000
QUICK = ("epochs=1", "hidden=64", "negatives=32")


@pytest.mark.long
def test_a_full_disk_is_reported_and_the_run_can_resume(tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    clicks.write_text(CLICKS)
    run = TrainingRun(clicks, tmp_path / "out", QUICK)

    failed = run.start(disk=FULL_AT_BYTES)

    assert failed.ended() == 2, failed.text
    assert "cannot be written" in failed.text
    assert "Traceback" not in failed.text
    assert not run.out.exists()
    assert run.finish()
    assert (run.out / "manifest.json").exists()
    assert not (tmp_path / "out.unfinished").exists()
