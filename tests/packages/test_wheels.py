"""Both distributions work in fresh environments, in a project with packages of the names of ours.

pip installs the client with its libraries, as a user does. The environment of session-recsys finds
the libraries of the environment that runs the tests, because torch takes minutes to install.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from recsys import __version__
from recsys.shadowing import PACKAGES, ROOT
from tests.support.service.servers import served

CLIENT = ROOT / "clients" / "python"
FOLDERS = {name: ROOT / name for name in ("recsys", *PACKAGES)}
FOLDERS["recsys_client"] = CLIENT / "recsys_client"
SMALL = ("--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=32")
TRAIN = ("train", "--clicks", "shop/clicks.csv", "--out", "bundle", "--recipe", "default", *SMALL)
MINE = "import data, service, training; print(data.mine, service.mine, training.mine)\n"


class Environment:
    """Virtual environment with nothing installed; its programs run in the project of a user."""

    def __init__(self, folder: Path, project: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        (self.site,) = folder.glob("lib/*/site-packages")
        self._programs, self._project = folder / "bin", project

    def install(self, *words: str) -> None:
        """Install with the pip of the tests, in the versions of constraints.txt."""
        pip = [sys.executable, "-m", "pip", "--python", str(self._programs / "python"), "install"]
        words = ("-q", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"), *words)
        subprocess.run([*pip, *words], env=variables(), check=True)

    def run(self, program: str, *words: str) -> str:
        """Run a program of this environment and return its output."""
        done = subprocess.run(
            [str(self._programs / program), *words],
            cwd=self._project,
            env=variables(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(
        self, words: Sequence[str], output: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start `recsys` of this environment, as `tests.support.processes.Start` describes."""
        with output.open("ab") as file:
            return subprocess.Popen(
                [str(self._programs / "recsys"), *words],
                cwd=self._project,
                env=variables(environment),
                stdout=file,
                stderr=file,
            )


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without a search path of this checkout."""
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist of each distribution, and a wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    for source in (ROOT, CLIENT):
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
        subprocess.run([*build, str(source)], cwd=out, check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project with its own `data`, `service` and `training`."""
    folder = tmp_path_factory.mktemp("project")
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"mine = {name!r}\n")
    return folder


@pytest.fixture(scope="module")
def client(dist: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("client"), project)
    environment.install(str(wheel(dist, "session_recsys_client")))
    return environment


@pytest.fixture(scope="module")
def whole(dist: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the environment of session-recsys, with a bundle in the project."""
    environment = Environment(tmp_path_factory.mktemp("whole"), project)
    environment.install("--no-deps", str(wheel(dist, "session_recsys")))
    # files *.pth in there, that of this checkout included, have no effect
    (environment.site / "libraries.pth").write_text(str(Path(pytest.__file__).parents[1]))
    environment.run("recsys", "shop", "--visits", "200", "--out", "shop")
    environment.run("recsys", *TRAIN)
    return environment


def wheel(dist: Path, name: str) -> Path:
    return dist / f"{name}-{__version__}-py3-none-any.whl"


def contents(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Return the digest of each file of these folders of a wheel."""
    with ZipFile(path) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.partition("/")[0] in folders
        }


def test_a_wheel_holds_all_tracked_files_of_its_packages_and_no_other(dist: Path) -> None:
    for name, folders in (
        ("session_recsys", set(FOLDERS)),
        ("session_recsys_client", {"recsys_client"}),
    ):
        tracked = {
            f"{folder}/{line}"
            for folder in folders
            for line in subprocess.check_output(
                ["git", "ls-files"], cwd=FOLDERS[folder], text=True
            ).splitlines()
        }
        with ZipFile(wheel(dist, name)) as archive:
            held = {each for each in archive.namelist() if ".dist-info/" not in each}

        assert held == tracked


def test_both_wheels_hold_the_same_client(dist: Path) -> None:
    """So it does not matter which one is installed last."""
    both = [
        contents(wheel(dist, name), ["recsys_client"])
        for name in ("session_recsys", "session_recsys_client")
    ]

    assert both[0] == both[1] != {}


def test_an_sdist_holds_what_make_needs(dist: Path) -> None:
    with tarfile.open(dist / f"session_recsys-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"Makefile", "constraints.txt", "tests/conftest.py", "Dockerfile"} <= names
    assert "clients/typescript/openapi.json" in names, "tests compare it"
    made = (".venv", "dist", "clients/typescript/dist", "clients/typescript/node_modules")
    assert not {name for name in names if name.startswith(made)}


def test_the_client_alone_says_that_no_service_answers(client: Environment) -> None:
    code = MINE + (
        "import sys\n"
        "from recsys_client import Client, ServiceUnreachable\n"
        "try:\n"
        "    Client('http://127.0.0.1:9', retries=0).model()\n"
        "except ServiceUnreachable as error:\n"
        "    print(error)\n"
        "print({'torch', 'numpy', 'pandas', 'fastapi', 'recsys'} & set(sys.modules))\n"
    )

    packages, refusal, heavy = client.run("python", "-c", code).splitlines()

    assert packages == "data service training"
    assert refusal.startswith("http://127.0.0.1:9: ")
    assert refusal.endswith("Is it running?")
    assert heavy == "set()"


def test_the_client_alone_installs_its_libraries_only(client: Environment) -> None:
    installed = {path.name.partition("-")[0] for path in client.site.glob("*.dist-info")}

    assert {"session_recsys_client", "httpx", "pydantic"} <= installed
    assert not {"session_recsys", "torch", "numpy", "pandas", "fastapi"} & installed


def test_session_recsys_trains_and_recommends(whole: Environment) -> None:
    place = whole.run("python", "-c", "import recsys_client; print(recsys_client.__file__)")
    answer = whole.run("recsys", "recommend", "--bundle", "bundle", "aurora-tent")

    assert Path(place.strip()).is_relative_to(whole.site)
    assert "aurora-" in answer


def test_the_client_alone_asks_the_installed_service(
    whole: Environment, client: Environment, project: Path, redis_url: str
) -> None:
    with served(project / "bundle", redis_url, None, whole.start) as url:
        code = MINE + (
            "from recsys_client import Client\n"
            f"answer = Client({url!r}).recommend(user_id='ada', item_id='aurora-tent', k=3)\n"
            "print(len(answer.items), answer.stored)"
        )

        assert client.run("python", "-c", code) == "data service training\n3 True\n"
