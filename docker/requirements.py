"""Print the requirements of some extras of pyproject.toml (default: the base), one per line.

An image can thus install dependencies before it copies the code, and the layer is cached.
"""

import sys
import tomllib
from pathlib import Path

file, *extras = sys.argv[1:]
project = tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"]
lists = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
others = [r for requirements in lists for r in requirements if not r.startswith(project["name"])]
sys.stdout.write("\n".join(others) + "\n")
