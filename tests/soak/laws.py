"""Run all property tests with many more examples than `make test` draws."""

import os
import subprocess
import sys
from pathlib import Path

from tests.soak.bounds import Bound

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "pytest", "-q", "-m", "hypothesis", "--hypothesis-profile", "thorough")


def laws(bundle: Path, folder: Path) -> list[Bound]:
    """Run pytest with the profile `thorough`; the tests make their own bundles."""
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
