"""Print the requirements of one extra of pyproject.toml (default: the base), one per line.

An image can thus install dependencies before it copies the code, and the layer is cached.
"""

import sys
import tomllib
from pathlib import Path

file, *extra = sys.argv[1:]
project = tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"]
requirements = project["optional-dependencies"][extra[0]] if extra else project["dependencies"]
sys.stdout.write("\n".join(requirements) + "\n")
