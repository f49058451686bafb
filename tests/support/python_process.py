"""A Python process that finds the packages of this repository, started in any folder."""

import os
import subprocess
import sys
from pathlib import Path

from recsys.shadowing import ROOT

SEARCH_PATH = os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python")))


def environment() -> dict[str, str]:
    """Return the environment of a process that finds this repository's packages."""
    return {**os.environ, "PYTHONPATH": SEARCH_PATH}


def python(script: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script, given as text."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
