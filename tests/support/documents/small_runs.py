"""Programs of the pages in small: as typed, with smaller numbers, each in a process of its own.

What follows here is added to what was typed, and the last one of an option counts. A program that
ends with anything but 0 raises, with the place in the page and the end of what it said.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.documents.markdown import ROOT

LOAD = "--seconds 0.3"
LEARN = "--set hidden=8 --set negatives=32"
SMALLER = {
    "compare_cells.py": f"--epochs 1 {LEARN}",
    "memory.py bundle": "--items 4000 --hidden 8",
    "memory.py catalogue": "--rounds 2",
    "memory.py serve": f"--most 2 --rate 20 {LOAD}",
    "redis_client.py": "--visits 64",
    "replay_over_http.py": "",  # as long as the log
    "scaling.py": f"--row 4000 300 --train-seconds 0.2 --cases 100 {LEARN}",
    "serving.py compare": f"--rounds 1 {LOAD}",
    "serving.py connections": f"--most 1 {LOAD}",
    "serving.py paced": f"--rate 20 --visitors 5 {LOAD}",
    "serving.py shop": "--items 300 --epochs 1 --hidden 8 --test-fraction 0.1",
    "serving.py users": "--count 200",
    "serving_parts.py": "--rounds 1 --calls 10",
    "serving_sizes.py capacity": f"--p90 0 {LOAD}",  # no rate is held, so that one is tried
    "serving_sizes.py sizes": LOAD,
    "time_to_accuracy.py": f"--epochs 1 {LEARN} --set epochs=1",
}
MOST_SECONDS = 600
END = 2000  # characters of what it said


def run_script(words: Sequence[str], folder: Path, place: str) -> str:
    """`python tests/….py` in that folder, with this Python and the modules of this checkout."""
    script, *given = words
    named = f"{Path(script).name} {given[0]}" if given else ""
    name = named if named in SMALLER else Path(script).name
    assert name in SMALLER, (
        f"{place}: tests/support/documents/small_runs.py does not say how {name} is made small."
    )
    typed = [sys.executable, str(ROOT / script), *given, *shlex.split(SMALLER[name])]
    return run_program(typed, folder, place, PYTHONPATH=str(ROOT))


def run_program(words: Sequence[str], folder: Path, place: str, **environment: str) -> str:
    """What it printed."""
    code, said = ended(words, folder, **environment)
    assert code == 0, f"{place}: {shlex.join(words)} exits with {code}\n{said[-END:]}"
    return said


def ended(words: Sequence[str], folder: Path, **environment: str) -> tuple[int, str]:
    """Its exit code and all that it said."""
    with subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as ran:
        try:
            said, _ = ran.communicate(timeout=MOST_SECONDS)
        except BaseException:
            os.killpg(ran.pid, signal.SIGKILL)  # with the servers that it started
            raise
    return ran.returncode, said
