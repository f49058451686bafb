"""Run the programs of the pages with smaller numbers, each in a process of its own.

The options of `SMALLER` come after those of the page; the last value of an option counts. A
non-zero exit status raises `AssertionError` with the place on the page and the end of the output. A
script is forked from a process that has loaded torch and our packages; what it starts itself is a
new Python.
"""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.documents.markdown import ROOT
from tests.support.processes import start_script
from tests.support.python_process import SEARCH_PATH

LOAD = "--seconds 0.3"
LEARN = "--set hidden=8 --set negatives=32"
SMALLER = {
    "collect.py": "--events 2000",
    "compare_cells.py": f"--epochs 1 {LEARN}",
    "compare_recipes.py": f"--number 2000 --set epochs=1 {LEARN}",
    "experiments.py": "--repeats 2 --users 300 --days 3",
    "draw_pictures.py": "",
    "encode_items.py": "",
    "gate.py": f"--nights 2 --window 300 --cases 40 --trials 2 2 2 --set epochs=1 {LEARN}",
    "item_lists.py": "",
    "list_rules.py": "",
    "live_catalogue.py lists": "--calls 20",
    "live_catalogue.py intake": "--changes 2000",
    "live_catalogue.py new-items": "--count 1",
    "memory.py bundle": "--items 4000 --hidden 8",
    "memory.py catalogue": "--rounds 2",
    "memory.py serve": f"--most 2 --rate 20 {LOAD}",
    "prepare_at_size.py": "--scale 0.00003 --workers 1 --memory 500MB",
    "redis_client.py": "--visits 64",
    "replay_over_http.py": "",  # takes as long as the log
    "ranks.py": f"--processes 1 2 {LEARN}",
    "shop_ceiling.py": "",
    "scaling.py": f"--row 4000 300 --train-seconds 0.2 --cases 100 {LEARN}",
    "serving.py compare": f"--rounds 1 {LOAD}",
    "serving.py connections": f"--most 1 {LOAD}",
    "serving.py events": "--count 200",
    "serving.py feedback": f"--rate 20 --rounds 1 --starts 1 {LOAD}",
    "serving.py paced": f"--rate 20 --visitors 5 {LOAD}",
    "serving.py shop": "--items 300 --epochs 1 --hidden 8 --test-fraction 0.1",
    "serving.py split": f"--rate 20 --rounds 1 --starts 1 {LOAD}",
    "serving.py tracing": f"--rate 20 --rounds 1 --starts 1 {LOAD}",
    "serving.py users": "--count 200",
    "serving_parts.py": "--rounds 1 --calls 10",
    "additions.py": f"--set epochs=1 {LEARN}",
    "serving_sizes.py capacity": f"--p90 0 {LOAD}",  # no rate holds this bound, so it tries one
    "serving_sizes.py sizes": LOAD,
    "trending.py exchanges": "--rounds 2",
    "trending.py costs": "--items 4000 --hidden 8 --rounds 20",
    "training_memory.py": "--clicks 4000 --items 300 --hidden 8 --checks 1",
    "successor_log.py": "--items 400 --clicks 4000 --held-out 100",
    "time_to_accuracy.py": f"--epochs 1 {LEARN} --set epochs=1",
}
MOST_SECONDS = 600
END = 2000  # characters of the output


def run_script(words: Sequence[str], folder: Path, place: str) -> str:
    """Run `python tests/….py` in a folder, with the modules of this checkout."""
    script, *given = words
    named = f"{Path(script).name} {given[0]}" if given else ""
    name = named if named in SMALLER else Path(script).name
    assert name in SMALLER, (
        f"{place}: tests/support/documents/small_runs.py has no smaller numbers for {name}."
    )
    typed = [*given, *shlex.split(SMALLER[name])]
    code, output = ended_script(ROOT / script, typed, folder)
    return _output_of([script, *typed], place, code, output)


def run_program(words: Sequence[str], folder: Path, place: str, **environment: str) -> str:
    """Run a program and return its output."""
    code, output = ended(words, folder, **environment)
    return _output_of(words, place, code, output)


def _output_of(words: Sequence[str], place: str, code: int, output: str) -> str:
    assert code == 0, f"{place}: {shlex.join(words)} exits with {code}\n{output[-END:]}"
    return output


def ended_script(script: Path, words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a script in a fork to its end; return exit code and output."""
    with tempfile.TemporaryDirectory() as temporary:
        printed = Path(temporary) / "output"
        environment = {**os.environ, "PYTHONPATH": SEARCH_PATH}
        process = start_script(script, words, folder, printed, environment)
        try:
            code = process.wait(MOST_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # and the servers that it started
            raise
        return code, printed.read_text(errors="replace")


def ended(words: Sequence[str], folder: Path, **environment: str) -> tuple[int, str]:
    """Run a program to its end; return exit code and output."""
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
            output, _ = ran.communicate(timeout=MOST_SECONDS)
        except BaseException:
            os.killpg(ran.pid, signal.SIGKILL)  # and the servers that it started
            raise
    return ran.returncode, output
