"""Write a bill of materials (SBOM, CycloneDX) of the Python packages of each image.

    python docker/sbom.py --out dist/sbom

An image has session-recsys with the extras that the Dockerfile names, and all that they require but
for what docker/prune.py removes.
Versions and licences are those of this environment, which `make install` creates from the same
constraints.txt. The packages of Debian and Python itself are of the base image, and not listed.
`licences.csv` lists the licences of all packages.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NAME = "session-recsys"
SCHEMA = SchemaVersion.V1_6
EXTRAS = re.compile(r"requirements\.py pyproject\.toml ([\w ]+) > (\w+)\.txt")


def extras_of_images() -> dict[str, list[str]]:
    """Return the extras that the Dockerfile installs in each image."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return {image: extras.split() for extras, image in EXTRAS.findall(dockerfile)}


def installed(extras: Sequence[str]) -> dict[str, metadata.Distribution]:
    """Return what an image with these extras has: name → package.

    session-recsys requires them, directly or not, and `prune.py` does not remove them.

    Raises:
        metadata.PackageNotFoundError: this environment lacks one of them.
    """
    found: dict[str, metadata.Distribution] = {}
    seen = set()
    waiting = [Requirement(f"{NAME}[{','.join(extras)}]")]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found[name] = metadata.distribution(name)
        waiting += _requirements(found[name], requirement.extras)
    prune = [sys.executable, str(ROOT / "docker" / "prune.py"), "names"]
    removed = subprocess.check_output(prune, encoding="utf-8").split()
    # the document is about session-recsys itself
    return {name: one for name, one in found.items() if name not in (NAME, *removed)}


def _requirements(package: metadata.Distribution, extras: Iterable[str]) -> list[Requirement]:
    """Return what a package requires here, with these extras."""
    environments = [{"extra": extra} for extra in ("", *extras)]
    requirements = map(Requirement, package.requires or ())
    return [
        each
        for each in requirements
        if each.marker is None or any(map(each.marker.evaluate, environments))
    ]


def bill_of(image: str, packages: Iterable[metadata.Distribution]) -> dict[str, Any]:
    """Return the document of cyclonedx-py about an environment of these packages alone."""
    with TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        venv.create(environment, symlinks=True)
        (site,) = environment.glob("lib/*/site-packages")
        for package in packages:
            information = _information_folder(package)
            (site / information.name).symlink_to(information)
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
        command += ["--spec-version", SCHEMA.to_version(), "--pyproject", f"{ROOT}/pyproject.toml"]
        command += ["--no-validate"]  # it is validated when it is complete
        done = subprocess.run(
            [*command, environment], check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
    bill: dict[str, Any] = json.loads(done.stdout)
    bill["metadata"]["component"] |= {
        "version": metadata.version(NAME),
        "purl": f"pkg:docker/{NAME}@{image}",
    }
    for component in bill["components"]:
        if "licenses" not in component and (words := _own_words(component["name"])):
            component["licenses"] = [{"license": {"acknowledgement": "declared", "name": words}}]
    return bill


def _own_words(name: str) -> str:
    """Return the field `License` of a package, which cyclonedx-py does not read; '' if none."""
    fields = metadata.metadata(name)
    return fields["License"].partition("\n")[0] if "License" in fields else ""


def _information_folder(package: metadata.Distribution) -> Path:
    """Return the folder *.dist-info of an installed package."""
    (file,) = [
        file for file in package.files or () if file.name == "METADATA" and len(file.parts) == 2
    ]
    return Path(str(file.locate())).parent


def licences_of(component: Mapping[str, Any]) -> str:
    """Return what the package declares: identifiers of SPDX, or words of its own."""
    names = []
    for entry in component.get("licenses", ()):
        licence = entry.get("license", {})
        words = licence.get("name", "").rpartition(" :: ")[2]  # of a classifier
        names.append(entry.get("expression") or licence.get("id") or words)
    return "; ".join(names) or "not declared"


def write_bills(images: Mapping[str, Sequence[str]], out: Path) -> None:
    """Write the document of each image (name → extras) and the table of licences.

    Raises:
        ValueError: a document does not have the form of its schema.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, str, str], list[str]] = {}
    for image, extras in images.items():
        bill = bill_of(image, installed(extras).values())
        text = json.dumps(bill, indent=2) + "\n"
        wrong = JsonStrictValidator(SCHEMA).validate_str(text)
        if wrong is not None:
            raise ValueError(f"{image} is no CycloneDX {SCHEMA.to_version()}: {wrong}")
        (out / f"{image}.cdx.json").write_text(text, encoding="utf-8")
        for component in bill["components"]:
            row = component["name"], component["version"], licences_of(component)
            rows.setdefault(row, []).append(image)
    with (out / "licences.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["package", "version", "licences", "images"])
        table.writerows([*row, " ".join(images)] for row, images in sorted(rows.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "sbom", help="folder")
    known = extras_of_images()
    parser.add_argument("--image", choices=known, action="append", help="default: all")
    given = parser.parse_args()
    write_bills({image: known[image] for image in given.image or known}, given.out)
