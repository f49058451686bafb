"""The bill of materials names every package of an image, in the form of CycloneDX."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from recsys import __version__
from recsys.shadowing import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sbom")
    script = [sys.executable, str(ROOT / "docker" / "sbom.py"), "--image", "serve"]
    subprocess.run([*script, "--out", str(out)], cwd=out, check=True)
    return out


@pytest.fixture(scope="module")
def bill(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / "serve.cdx.json").read_text())
    return made


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_has_the_form_of_its_schema(bill: dict[str, Any]) -> None:
    assert bill["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_it_is_about_an_image_of_this_version(bill: dict[str, Any]) -> None:
    component = bill["metadata"]["component"]

    assert (component["name"], component["version"]) == ("session-recsys", __version__)


def test_it_has_what_serving_installs_in_the_pinned_versions(bill: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    versions = {normal(name): version for name, version in pinned.items()}
    found = {normal(each["name"]): each["version"] for each in bill["components"]}

    assert {"torch", "fastapi", "redis", "hiredis", "uvloop"} <= set(found)  # extras included
    assert not {"pandas", "optuna", "pytest", "session-recsys"} & set(found)
    assert not {"sympy", "mpmath", "networkx", "setuptools"} & set(found), "removed from the image"
    for name, version in found.items():
        assert version.partition("+")[0] == versions[name].partition("+")[0], name


def test_every_package_of_serving_declares_a_licence(folder: Path) -> None:
    with (folder / "licences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) > 40
    assert [row["package"] for row in rows if row["licences"] in ("", "not declared")] == []
    assert {row["package"]: row["licences"] for row in rows}["pydantic"] == "MIT"
