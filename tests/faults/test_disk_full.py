"""A disk that fills up: one sentence, exit 2, and what was saved stays. A file size limit stands in
for the full disk, so that no test needs to mount one."""

from pathlib import Path

from tests.support.training.trainers import TrainingRun

CLICKS = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s * 7 + c) % 500},{100 * s + c}\n" for s in range(300) for c in range(3)
)
FULL_AT_BYTES = 100_000
QUICK = ("epochs=1", "hidden=64", "negatives=32")


def test_a_full_disk_is_said_and_the_run_can_go_on(tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    clicks.write_text(CLICKS)
    run = TrainingRun(clicks, tmp_path / "out", QUICK)

    failed = run.start(disk=FULL_AT_BYTES)

    assert failed.ended() == 2, failed.said
    assert "cannot be written" in failed.said
    assert "Traceback" not in failed.said
    assert not run.out.exists()
    assert run.finish()
    assert (run.out / "manifest.json").exists()
    assert not (tmp_path / "out.unfinished").exists()
