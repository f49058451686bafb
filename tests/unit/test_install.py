"""`install.py`: what it shows of pip, and what it says after a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

import install
from install import Progress, explained


def test_a_line_of_pip_becomes_a_step(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.read("Requirement already satisfied: rich>=13 in /lib (from session-recsys)\n")
    progress.read("Collecting torch<2.14,>=2.6 (from -c constraints.txt (line 200))\n")
    assert str(progress) == "package 2: torch"
    progress.read("  Downloading https://a.example/torch-2.13.0-cp311-linux_x86_64.whl (180 MB)\n")
    assert str(progress) == "package 2: downloading torch-2.13.0 (180 MB)"
    packages = tmp_path / "lib/python3.11/site-packages"
    (packages / "pip-26.dist-info").mkdir(parents=True)
    progress.read("Installing collected packages: rich, torch\n")
    (packages / "torch-2.13.0.dist-info").mkdir()
    assert str(progress) == "unpacked 1 of 2 packages"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'", "does not answer"),
        ("ERROR: No matching distribution found for torch==1.0", "lacks a version"),
        ("ERROR: [Errno 13] Permission denied: '/venv'", "cannot be written"),
        ("Error: [Errno 2] No such file: '/venv/bin/python'", "Remove its folder"),
    ],
)
def test_a_failure_is_explained(line: str, meant: str) -> None:
    told = explained(["Collecting torch", line, "note: see above"])
    assert told.startswith(line)
    assert meant in told


@pytest.mark.long
def test_a_failed_installation_leaves_no_stamp(tmp_path: Path) -> None:
    environment = tmp_path / ".venv"
    environment.mkdir()
    (environment / install.STAMP).touch()
    command = [sys.executable, install.__file__, str(environment)]
    alone = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert done.returncode == 1
    assert "package index does not answer" in done.stderr
    assert f"{environment / install.LOG} has the output of pip" in done.stderr
    assert not (environment / install.STAMP).exists()
