"""Copy of the checkout in which `make` runs as after `git clone` and `make install`.

The `.venv` of the copy holds links to the environment that runs the tests, and a stamp that marks
it as installed: nothing is downloaded, and nothing is written to the real checkout. `make` targets
run with the short options of `SMALLER`.
"""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.browser.browsers import MISSING
from tests.support.documents.markdown import ROOT
from tests.support.documents.small_runs import ended, run_program

FOLDERS = (
    *("clients", "data", "docker", "docs", "examples"),
    *("recsys", "service", "tests", "training"),
)
BUNDLE = "runs/small/bundle"
ALL_CHECKED = re.compile(r'^files = \["clients/python", .*\]$', re.MULTILINE)
SMALLER = {  # target → its ARGS, if the page gives none
    "test": "-q --numprocesses 0 tests/unit/training/evaluation/test_metrics.py",
    "faults": f"--bundle {BUNDLE} --seconds 0.2 --fault refused --patience 20",
    "sbom": "--help",  # tests/packages/test_sbom.py writes one
    "fuzz": f"--bundle {BUNDLE} --cases 1 --each 1",
    "compose-check": "--help",
    "site": "--help",  # tests/docs/test_site.py builds it
}
COLLECT = "--collect-only -q"  # tests that .ci/run runs beside this one, or that take a minute
PYTEST = {  # target → additional options of pytest
    "browser-test": COLLECT,
    "docs-check": COLLECT,
    "long-test": COLLECT,
    "packages-check": COLLECT,
    "screenshots": COLLECT,
    "test": "-p no:cacheprovider",
}
TRACES = "docs/architecture.md"  # lists files in the order of their first call
NO_ENVIRONMENT = "make was only checked: the tests run in no virtual environment to link to."


class CleanCheckout:
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
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        for file in ROOT.iterdir():
            if file.is_file() and file.name != ".git":
                shutil.copy2(file, self.folder)
        settings = self.folder / "pyproject.toml"
        text = settings.read_text(encoding="utf-8")
        # mypy takes a minute for all files, and 20 seconds for one that imports torch
        few, replaced = ALL_CHECKED.subn('files = ["tests/support/shared_folders.py"]', text)
        assert replaced == 1
        settings.write_text(few, encoding="utf-8")

    def _link_environment(self) -> None:
        environment = self.folder / ".venv"
        environment.mkdir()
        for part in Path(sys.prefix).iterdir():
            if part.name != "installed":
                (environment / part.name).symlink_to(part)
        (environment / "installed").touch()  # newer than pyproject.toml

    def make(self, words: Sequence[str], place: str) -> str | None:
        """Run a target; return the reason if this machine cannot run it."""
        target, *given = words
        if not self.is_usable:
            return NO_ENVIRONMENT
        if target in ("browser", "browser-test", "screenshots") and self._has_no_browser():
            return MISSING  # and a test installs none
        if target in ("typescript", "ts-client"):
            return "it needs the npm registry; tests/browser/test_typescript.py does the same"
        if target == "redis" and shutil.which("redis-server") is None:
            return "there is no redis-server, and a test installs none"
        if target in SMALLER and not given:
            given = [f"ARGS={SMALLER[target]}"]
        packages = os.pathsep.join(map(str, (self.folder, self.folder / "clients" / "python")))
        environment = {"PYTHONPATH": packages, "PIP_NO_INDEX": "1"}
        if target in PYTEST:
            environment["PYTEST_ADDOPTS"] = PYTEST[target]
        run_program(["make", target, *given], self.folder, place, **environment)
        if target == "docs":
            made, stored = (folder.joinpath(TRACES).read_text() for folder in (self.folder, ROOT))
            assert made == stored, f"{place}: {TRACES} names other files than run. Say make docs."
        return None

    def _has_no_browser(self) -> bool:
        code, _ = ended(
            [sys.executable, str(ROOT / "tests" / "browser" / "browsers.py")], self.folder
        )
        return code != 0

    def activate(self, script: str, place: str) -> str | None:
        """Source the script and check that `recsys` is the one of the environment."""
        if not self.is_usable:
            return NO_ENVIRONMENT
        command = f'. {script} && command -v recsys && test -n "$VIRTUAL_ENV"'
        program = run_program(["bash", "-ec", command], self.folder, place).splitlines()[-1]
        assert Path(program).samefile(self.folder / ".venv/bin/recsys"), f"{place}: {program}"
        return None
