"""A forked process of the tests is one of its own, and has nothing left to load."""

import os
import signal
import sys
import time
from pathlib import Path

from tests.support.processes import PRELOADED, ForkedProcess


def tell_about_this_process() -> None:
    missing = sorted(set(PRELOADED) - set(sys.modules))
    sys.stdout.write(f"{os.environ['SHOP']} {'PATH' in os.environ} {os.getpid()} {missing}")
    sys.exit(3)


def test_a_fork_has_its_environment_its_status_and_all_packages(tmp_path: Path) -> None:
    process = ForkedProcess(tell_about_this_process, (), tmp_path / "log", {"SHOP": "outdoor"})

    assert process.wait(60) == 3
    assert (tmp_path / "log").read_text() == f"outdoor False {process.pid} []"


def test_a_fork_can_be_killed(tmp_path: Path) -> None:
    process = ForkedProcess(time.sleep, (600,), tmp_path / "log", os.environ)
    assert process.poll() is None

    process.kill()

    assert process.wait(60) == -signal.SIGKILL
