"""What the documents and the files beside them promise of the repository is true."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from typer.main import get_command

from recsys import __version__
from recsys.cli import app

ROOT = Path(__file__).parent.parent
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


def test_the_image_itself_asks_for_a_key() -> None:
    """Whoever publishes its port has to set one, or to say that none is needed."""
    assert "PUBLIC_WITHOUT_KEY" not in (ROOT / "Dockerfile").read_text()


def test_compose_publishes_the_api_alone_and_on_loopback() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert list(published) == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in published["api"])
    # because of that, and of nothing else, it may go without a key
    assert compose["services"]["api"]["environment"]["RECSYS_PUBLIC_WITHOUT_KEY"] == "true"
    assert compose["networks"]["store"] == {"internal": True}
    assert "name" not in compose
