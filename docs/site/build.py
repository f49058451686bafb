"""Build the site of this version beside those of earlier ones.

    make site
    python docs/site/build.py --out FOLDER    # that has the sites of earlier versions, or none

A warning of Sphinx, such as a link that leads nowhere, is an error. The pages need no server and
send no request to another host.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NUMBERS = re.compile(r"\d+")
NOT_READ = shutil.ignore_patterns(".buildinfo*", "objects.inv")  # files for other programs


def build(out: Path, version: str) -> Path:
    """Build the pages of this checkout, replace the folder of this version, and list all versions.

    Returns:
        The folder of this version.

    Raises:
        SystemExit: Sphinx reports errors or warnings; nothing is replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "site")
        options = ["--quiet", "--fail-on-warning", "-d", f"{folder}/cache", "-c", str(HERE)]
        if build_main([*options, str(ROOT), str(built)]):
            raise SystemExit("error: The site was not built. Sphinx names the reasons above.")
        shutil.rmtree(out / version, ignore_errors=True)
        site = shutil.copytree(built, out / version, ignore=NOT_READ)
    list_versions(out)
    return site


def list_versions(out: Path) -> None:
    """Write the menu that the pages of every version load, and a first page."""
    versions = [path.parent.name for path in out.glob("*/README.html")]
    versions.sort(key=lambda name: [int(number) for number in NUMBERS.findall(name)], reverse=True)
    menu = (HERE / "versions.js").read_text(encoding="utf-8")
    start = (HERE / "templates" / "start.html").read_text(encoding="utf-8")
    for name, text, old, new in (
        ("versions.js", menu, "VERSIONS", json.dumps(versions)),
        ("index.html", start, "README.html", f"{versions[0]}/README.html"),
    ):
        (out / name).write_text(text.replace(old, new), encoding="utf-8")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from recsys import __version__

    parser = argparse.ArgumentParser(description="Build the documents as a site.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "site", help="of all versions")
    site = build(parser.parse_args().out, __version__)
    sys.stdout.write(f"{site / 'README.html'}\n")


if __name__ == "__main__":
    main()
