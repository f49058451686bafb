"""A disk that fills up: one sentence, exit 2, and what was saved stays. A file size limit stands in
for the full disk, so that no test needs to mount one."""

import resource
import subprocess
import sys
from pathlib import Path

CLICKS = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s * 7 + c) % 500},{100 * s + c}\n" for s in range(300) for c in range(3)
)
COMMAND = [sys.executable, "-c", "from recsys.cli import main; main()", "train"]
FULL_AT_BYTES = 100_000
QUICK = ["--set", "epochs=1", "--set", "hidden=64", "--set", "negatives=32"]


def train(clicks: Path, out: Path, limit: int, *more: str) -> subprocess.CompletedProcess[str]:
    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [*COMMAND, "--clicks", str(clicks), "--out", str(out), *QUICK, *more]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=set_limit)


def test_a_full_disk_is_said_and_the_run_can_go_on(tmp_path: Path) -> None:
    clicks, out = tmp_path / "clicks.csv", tmp_path / "out"
    clicks.write_text(CLICKS)

    failed = train(clicks, out, FULL_AT_BYTES)
    assert failed.returncode == 2, failed.stderr
    assert "cannot be written" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not out.exists()

    again = train(clicks, out, resource.RLIM_INFINITY, "--resume")
    assert again.returncode == 0, again.stderr
    assert (out / "manifest.json").exists()
    assert not (tmp_path / "out.unfinished").exists()
