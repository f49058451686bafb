"""`recsys train` on two processes: stopped by a signal, resumed by torchrun, and its errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.bundle.load import load_bundle
from service.server.embedded_redis import free_port
from tests.support.processes import Process, start_fork, start_python
from tests.support.training.command_line import run
from tests.support.training.process_runs import walks

LIMIT_SECONDS = 300
SETTINGS = ["hidden=4", "epochs=1", "batch=6", "negatives=8", "validation=0.1"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a click log of 300 sessions, on whose validation part recipes compete."""
    path = tmp_path_factory.mktemp("log") / "clicks.csv"
    rows = [
        f"s{session},{letter},{100 * session + at}\n"
        for session, walk in enumerate(walks(300, 5))
        for at, letter in enumerate(walk)
    ]
    path.write_text("session_id,item_id,timestamp\n" + "".join(rows))
    return path


def command(clicks: Path, out: Path, *options: str) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["train", "--clicks", str(clicks), "--out", str(out), *settings, *options]


@pytest.mark.long
def test_a_stopped_run_goes_on_by_torchrun(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both start the same processes; the recipes compete, and the first process writes."""
    out = tmp_path / "shop"
    log = tmp_path / "log"
    words = command(clicks, out, "--processes", "2", "--checkpoint-seconds", "0")
    stopped = start_python(words, log, os.environ)
    try:
        wait_for_a_checkpoint(tmp_path / "shop.unfinished", stopped, log)
        stopped.send_signal(signal.SIGTERM)
        status = stopped.wait(LIMIT_SECONDS)
    finally:
        stopped.kill()
        stopped.wait()
    message = log.read_text()
    assert status == 130, message
    assert "the same command and --resume go on with it" in message

    resumed = subprocess.run(
        [*TORCHRUN, "-m", "recsys", *command(clicks, out, "--resume")],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("What was read") == 1, "one process prints"
    assert "(2 processes of " in resumed.stderr
    assert not (tmp_path / "shop.unfinished").exists()
    assert len(load_bundle(out).catalogue) == 26
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["training"]["tried"]
    bundle = ["--bundle", str(out), "--clicks", str(clicks)]
    alone = json.loads(run(capsys, "evaluate", *bundle, "--json")[1])
    assert {name: alone[name] for name in manifest["metrics"]} == manifest["metrics"]


@pytest.mark.long
def test_two_machines_train_like_two_processes_of_one(clicks: Path, tmp_path: Path) -> None:
    """Each of two launchers of torchrun starts a process; they share item lists, too."""
    recipe = ["--recipe", "default", "--set", "retrieval=lists"]
    together = start_fork(
        command(clicks, tmp_path / "together", *recipe, "--processes", "2"),
        tmp_path / "log",
        os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert together.wait(LIMIT_SECONDS) == 0, (tmp_path / "log").read_text()
    port = free_port()
    machines = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"),
                *(f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-conf=is_host={not number}"),
                *("-m", "recsys", *command(clicks, tmp_path / str(number), *recipe)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    said = [machine.communicate(timeout=LIMIT_SECONDS)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said

    (written,) = [out for out in (tmp_path / "0", tmp_path / "1") if out.exists()]
    for name in ("weights.safetensors", "retrieval.index"):
        assert (written / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


def wait_for_a_checkpoint(work: Path, process: Process, log: Path) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not any(work.glob("**/checkpoint.safetensors")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_error_is_one_message(tmp_path: Path) -> None:
    words = command(tmp_path / "none.csv", tmp_path / "shop", "--processes", "2")

    failed = start_fork(words, tmp_path / "log", os.environ)

    assert failed.wait(LIMIT_SECONDS) == 2
    said = (tmp_path / "log").read_text()
    assert said.count("none.csv does not exist") == 1
    assert "Traceback" not in said


def test_torchrun_decides_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run of torchrun")

    code, _, message = run(
        capsys, *command(tmp_path / "none.csv", tmp_path / "shop", "--processes", "2")
    )

    assert code == 2
    assert "Leave it out, and give torchrun --nproc-per-node." in message
