"""Every law that Hypothesis draws examples for, with many more of them than `make test` draws."""

import os
import subprocess
import sys
from pathlib import Path

from tests.soak.bounds import Bound

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "pytest", "-q", "-m", "hypothesis", "--hypothesis-profile", "thorough")


def laws(bundle: Path, folder: Path) -> list[Bound]:
    """The tests make what they need in folders of their own."""
    ran = subprocess.run(
        (sys.executable, *COMMAND, "-o", f"cache_dir={folder}"),
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    *_, last = ran.stdout.splitlines() or [ran.stderr]
    wrong = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return [
        Bound("laws with 500 examples each", last),
        Bound("broken", "\n".join(wrong) or str(ran.returncode), "0", ran.returncode == 0),
    ]
