"""However `recsys prepare --workers` ends, the same command ends with the bytes of a whole run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.click_options import ClickOptions
from data.distributed.prepare import NAMES
from data.prepared.run import in_memory, make_folder, unfinished
from tests.benchmarks import otto_log
from tests.support.python_process import environment

COLUMNS = ["--session-column", "session", "--item-column", "aid", "--time-column", "ts"]
SMALL_DISK_KB, LARGE_DISK_KB = 2_000, 200_000
ATTEMPTS = 5  # to send a signal before the run ends
# on a file system of its own, which disappears with the shell
ON_A_SMALL_DISK = """
mount -t tmpfs -o size={small}k none {disk} || exit 77
{command}
echo "first: $?"
mount -o remount,size={large}k {disk}
{command}
echo "second: $?"
cp -r {disk}/out {copy}
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of 65 thousand events."""
    path = tmp_path_factory.mktemp("log") / "clicks.jsonl"
    otto_log.write(path, scale=0.0003)
    return path


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of the in-memory path."""
    options = ClickOptions(log, session_column="session", item_column="aid", time_column="ts")
    out = tmp_path_factory.mktemp("whole") / "out"
    return contents(make_folder(out, options, in_memory(options))[0].path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command(log: Path, out: Path) -> list[str]:
    options = ["--clicks", str(log), *COLUMNS, "--out", str(out)]
    workers = ["--workers", "1", "--worker-memory", "500MB"]
    return [sys.executable, "-m", "recsys", "prepare", *options, *workers]


def start(log: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(log, out),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_a_record(run: subprocess.Popen[str], out: Path, stage: str) -> None:
    record = unfinished(out) / f"{stage}.json"
    while run.poll() is None and not record.exists():
        time.sleep(0.01)


@pytest.mark.long
def test_kill_9_after_a_stage_changes_nothing(
    log: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for stage in NAMES[::2]:  # each takes a start of workers
        run = start(log, out)
        wait_for_a_record(run, out, stage)
        run.kill()
        run.communicate()
        if any(out.glob("*")):  # the run ended before the kill
            break

    last = start(log, out)
    text, _ = last.communicate()

    assert last.returncode == 0, text
    assert "Going on after the stage" in text or "Nothing has changed" in text
    assert contents(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_names_the_way_to_go_on(log: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    for _ in range(ATTEMPTS):
        run = start(log, out)
        wait_for_a_record(run, out, "read")
        run.send_signal(number)
        text, _ = run.communicate()
        if run.returncode != 0:
            break
        shutil.rmtree(out)  # the run had ended before the signal

    assert run.returncode == 130, text
    assert f"Finished stages are kept in {unfinished(out)}" in text
    assert not out.exists()


@pytest.mark.long
def test_a_full_disk_is_named_and_the_same_command_goes_on_when_there_is_space(
    log: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    script = ON_A_SMALL_DISK.format(
        small=SMALL_DISK_KB,
        large=LARGE_DISK_KB,
        disk=disk,
        copy=copy,
        command=" ".join(command(log, disk / "out")),
    )
    if shutil.which("unshare") is None:
        pytest.skip("this machine has no unshare")

    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        env={**environment(), "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("this machine allows no mount")

    assert "first: 2\nsecond: 0\n" in done.stdout, done.stderr
    assert "space" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Going on after the stage 'read'" in done.stderr
    assert contents(copy) == whole
