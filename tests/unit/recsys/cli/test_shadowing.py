"""The command runs beside a user's own `data` or `service`, or names what shadows ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
CLIENT = ROOT / "clients" / "python"
CONSOLE_SCRIPT = "from recsys.cli.main import main\nmain()\n"  # as an installer writes it


@pytest.fixture(params=["data.py", "data/__init__.py", "service/__init__.py", "service/app.py"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder of a user, with a file of the name of one of our packages."""
    file: Path = tmp_path / "project" / request.param
    file.parent.mkdir(parents=True)
    file.write_text("raise RuntimeError('this is not a package of session-recsys')\n")
    return tmp_path / "project"


def run_command(
    project: Path, *program: str, search_path: tuple[Path, ...] = (ROOT, CLIENT)
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, "shop", "--visits", "30", "--out", "shop"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, search_path))}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


@pytest.mark.long
def test_python_m_works_beside_packages_of_the_same_names(project: Path) -> None:
    done = run_command(project, "-m", "recsys")

    assert done.returncode == 0, done.stderr
    assert (project / "shop" / "clicks.csv").exists()


def test_the_console_script_works_beside_packages_of_the_same_names(project: Path) -> None:
    script = project.parent / "bin" / "recsys"
    script.parent.mkdir()
    script.write_text(CONSOLE_SCRIPT)

    done = run_command(project, str(script))

    assert done.returncode == 0, done.stderr
    assert (project / "shop" / "clicks.csv").exists()


@pytest.mark.parametrize("name", ["data.py", "data/__init__.py", "service/__init__.py"])
def test_a_package_that_python_finds_first_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('this is not a package of session-recsys')\n")
    shadow = file if name == "data.py" else file.parent

    done = run_command(tmp_path, "-m", "recsys", search_path=(tmp_path, ROOT, CLIENT))

    assert done.returncode == 2
    assert f"{shadow} is found instead of the package {shadow.stem!r} in {ROOT}" in done.stderr
    assert "Rename it, or take its folder off PYTHONPATH." in done.stderr
    assert "Traceback" not in done.stderr
