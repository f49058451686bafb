"""A child process ends when its parent ends, however that happens."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.child_process import end_guard, start_guard
from tests.support.python_process import environment, python
from tests.support.redis.servers import wait_until
from tests.support.service.processes import gone

PATIENT = "echo $$ >&2; exec sleep 600"  # the process id, then minutes of nothing


def calling(script: str) -> str:
    return (
        "import os\n"
        "from recsys.child_process import run_until_interrupted\n"
        f"run_until_interrupted(['sh', '-c', {script!r}], os.environ)"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_of_a_killed_process_ends(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", calling(PATIENT)], env=environment(), stderr=subprocess.PIPE
    )
    with parent:
        assert parent.stderr is not None
        child = int(parent.stderr.readline())
        assert not gone(child)
        parent.send_signal(number)

    assert parent.returncode == -number
    wait_until(lambda: gone(child), "the child has ended")


def test_the_log_is_passed_on_and_its_last_line_is_the_reason_of_an_error() -> None:
    done = python(calling("echo first >&2; echo error: it broke >&2; exit 3"))

    assert done.stderr.startswith("first\nerror: it broke\n")
    assert done.stderr.endswith("RecsysError: The service ended with status 3: it broke\n")
    assert python(calling("echo done >&2")).stderr == "done\n"


def test_a_guard_that_is_ended_leaves_the_process_and_its_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "600"])
    try:
        end_guard(start_guard(process.pid, str(tmp_path)))

        assert (process.poll(), tmp_path.is_dir()) == (None, True)
    finally:
        process.kill()
        process.wait()
