"""Documents that can rot are held to the code: commands, settings, files, numbers, lengths."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from soak import app as soak
from typer.main import get_command

from data.clicks import read_clicks
from data.columns import Columns
from recsys import __version__
from recsys.cli import app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/README.md"))


def settings_table() -> str:
    """The table of all settings, made from the class."""
    rows = ["| variable | default | is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "required" if field.is_required() else default
        if hasattr(default, "get_secret_value"):
            shown = default.get_secret_value()
        cell = "" if shown in (None, ()) else f"`{shown}`" if shown != "required" else "required"
        rows.append(f"| `RECSYS_{name.upper()}` | {cell} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_is_the_settings_class() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    between = re.search(r"by a test -->\n(.*)\n<!-- end of settings", text, re.DOTALL)

    assert between is not None
    assert between[1] == settings_table()


def test_every_command_and_option_of_the_readme_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    used = re.findall(r"^recsys (\w+)(.*)$", README, re.MULTILINE)

    assert {verb for verb, _ in used} >= {"train", "evaluate", "recommend", "serve"}
    for verb, rest in used:
        options = {name for parameter in commands[verb].params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, verb


def test_every_command_is_in_the_readme_and_has_help() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"recsys {name}" in README or f"make {name}" in README, name
        assert command.help, name


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))

    for path in DOCUMENTS:
        for target in re.findall(r"`?make ([a-z][a-z-]+)", path.read_text(encoding="utf-8")):
            assert target in targets, f"{path}: make {target}"


def test_every_promise_is_held_by_a_test_that_exists() -> None:
    promised = PROMISES.partition("## Figures")[0].splitlines()
    rows = [row for row in promised if row.startswith("| ") and "held by" not in row]
    parts = {getattr(part.callback, "__name__", "") for part in soak.registered_commands}

    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        targets = re.findall(r"`make (\w+)`(?: \(([\w, -]+)\))?", row)
        assert named or targets, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
        for _, listed in targets:
            assert {part.replace("-", "_") for part in listed.split(", ") if part} <= parts, row


def test_the_rows_of_the_readme_can_be_read(tmp_path: Path) -> None:
    rows = re.search(r"```csv\n(.*?)```", README, re.DOTALL)
    assert rows is not None
    path = tmp_path / "clicks.csv"
    path.write_text(rows[1])

    log = read_clicks(path, Columns())

    assert len(log) == 6
    assert "00123" in log.item_ids
    assert (log.time_ms // 1000).tolist() == [1767225600 + n for n in (0, 40, 45, 85, 90, 130)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_named_in_tables_and_links_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:recsys|data|training|service|tests|docker)/[\w./-]*)`", text)
    named += [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    for name in named:
        assert (ROOT / name).exists() or (path.parent / name).exists(), name


def test_every_module_of_data_is_in_its_readme() -> None:
    text = (ROOT / "data" / "README.md").read_text()

    for module in (ROOT / "data").glob("[a-z]*.py"):
        assert f"`{module.name}`" in text, module


def test_the_readme_is_short() -> None:
    assert README.count("\n") < 200


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_routes_of_the_readme_are_the_routes_of_the_service() -> None:
    from service.routes import catalogue, health, recommendations, users

    for module in (catalogue, health, recommendations, users):
        for route in module.router.routes:
            path = route.path.replace(":path", "")
            assert f"{path}" in README.replace("?k=", ""), path


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
