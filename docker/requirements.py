"""Print the requirements of one extra of pyproject.toml (none: the base), one a line.

Lets an image install dependencies before the code is copied, so that the layer is cached.
"""

import sys
import tomllib
from pathlib import Path

file, *extra = sys.argv[1:]
project = tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"]
wanted = project["optional-dependencies"][extra[0]] if extra else project["dependencies"]
sys.stdout.write("\n".join(wanted) + "\n")
