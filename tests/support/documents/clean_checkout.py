"""The Yard: what somebody has who cloned this repository and typed `make install`, for `make`.

A copy of the checkout with a `.venv` whose contents are links to the environment that runs the
tests, and a stamp that says that it is installed: nothing is downloaded, and nothing is written
into the real one. `make` runs in small, as `SMALLER` says.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.browser.browsers import MISSING
from tests.support.documents.markdown import ROOT
from tests.support.documents.small_runs import ended, run_program

FOLDERS = ("data", "docker", "docs", "recsys", "service", "tests", "training")
BUNDLE = "runs/small/bundle"
ALL_CHECKED = 'files = ["recsys", "data", "training", "service", "tests"]'
SMALLER = {  # target → its ARGS, where the page gives none
    "test": "-q tests/unit/training/evaluation/test_metrics.py",
    "faults": f"--bundle {BUNDLE} --seconds 0.2 --fault refused --patience 20",
    "fuzz": f"--bundle {BUNDLE} --cases 1 --each 1",
    "compose-check": "--help",
}
PYTEST = {  # target → what pytest is told besides
    "screenshots": "--collect-only -q",  # they are of a demo shop, which trains for a minute
    "docs-check": "--collect-only -q",  # that is this
    "browser-test": "-p no:cacheprovider -k widens",
    "test": "-p no:cacheprovider",
}
NO_ENVIRONMENT = "make was only looked at: the tests run in no virtual environment to link to."


class Yard:
    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self.is_usable = sys.prefix != sys.base_prefix
        if self.is_usable:
            self._copy_checkout()
            shutil.copytree(bundle, folder / BUNDLE)
            self._link_environment()

    def _copy_checkout(self) -> None:
        self.folder.mkdir()
        for name in FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        for file in ROOT.iterdir():
            if file.is_file() and file.name != ".git":
                shutil.copy2(file, self.folder)
        settings = self.folder / "pyproject.toml"
        text = settings.read_text(encoding="utf-8")
        assert ALL_CHECKED in text
        few = text.replace(ALL_CHECKED, 'files = ["recsys/errors.py"]')  # mypy of all: a minute
        settings.write_text(few, encoding="utf-8")

    def _link_environment(self) -> None:
        environment = self.folder / ".venv"
        environment.mkdir()
        for part in Path(sys.prefix).iterdir():
            if part.name != "installed":
                (environment / part.name).symlink_to(part)
        (environment / "installed").touch()  # newer than pyproject.toml

    def make(self, words: Sequence[str], place: str) -> str | None:
        """Runs it; a sentence where it could not be."""
        target, *given = words
        if not self.is_usable:
            return NO_ENVIRONMENT
        if target in ("browser", "browser-test", "screenshots") and self._has_no_browser():
            return MISSING  # and to install one is not for a test
        if target == "redis" and shutil.which("redis-server") is None:
            return "there is no redis-server, and a test installs none"
        if target in SMALLER and not given:
            given = [f"ARGS={SMALLER[target]}"]
        here, told = {"PYTHONPATH": str(self.folder), "PIP_NO_INDEX": "1"}, PYTEST.get(target)
        if told is not None:
            here["PYTEST_ADDOPTS"] = told
        run_program(["make", target, *given], self.folder, place, **here)
        return None

    def _has_no_browser(self) -> bool:
        code, _ = ended(
            [sys.executable, str(ROOT / "tests" / "browser" / "browsers.py")], self.folder
        )
        return code != 0

    def activate(self, script: str, place: str) -> str | None:
        """Afterwards `recsys` is the one of the environment."""
        if not self.is_usable:
            return NO_ENVIRONMENT
        asked = f'. {script} && command -v recsys && test -n "$VIRTUAL_ENV"'
        found = run_program(["bash", "-ec", asked], self.folder, place).splitlines()[-1]
        assert Path(found).samefile(self.folder / ".venv/bin/recsys"), f"{place}: {found}"
        return None
