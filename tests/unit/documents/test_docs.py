"""README, changelog, constraints and the pages of folders agree with the repository."""

import re
import tomllib
from itertools import chain
from pathlib import Path

from typer.main import get_command

from recsys import __version__
from recsys.cli.app import app

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_is_in_the_readme_and_has_help() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"recsys {name}" in README or f"make {name}" in README, name
        assert command.help, name


def test_every_module_of_data_is_in_its_readme() -> None:
    text = (ROOT / "data" / "README.md").read_text()

    for module in (ROOT / "data").glob("[a-z]*.py"):
        assert f"`{module.name}`" in text, module


def test_the_readme_is_short() -> None:
    assert README.count("\n") < 200


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_requirement_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *chain.from_iterable(extras)]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}

    for requirement in wanted:
        name = re.split(r"[\[>=;<~ ]", requirement)[0].lower()
        assert name == "session-recsys" or name in pinned, name
    assert "torch==2.13.0" in lines
