"""Guard against modules of the user that have the names of our packages.

`data`, `training` and `service` are common names. A user's own `data.py` or `service/` is imported
instead of ours where its folder comes first on Python's search path.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import recsys
from recsys.errors import BadInput

PACKAGES = ("data", "training", "service")


def leave_out_current_folder() -> None:
    """Take the current folder off the search path, where `python -m` has put it.

    The console script `recsys` does not search it either. A checkout of this project stays.
    """
    if sys.flags.safe_path or not sys.path:
        return
    first = Path(sys.path[0]).resolve()
    if first == Path.cwd().resolve() and first != _home():
        del sys.path[0]


def check_packages() -> None:
    """Raise `BadInput` with every file or folder that shadows one of our packages."""
    problems = []
    for name in PACKAGES:
        spec = find_spec(name)
        location = None if spec is None else _location(spec)
        if location is not None and location.parent != _home():
            problems.append(
                f"{location} is found instead of the package {name!r} in {_home()}. Rename it, or "
                "take its folder off PYTHONPATH."
            )
    if problems:
        raise BadInput("The packages of session-recsys are shadowed", problems)


def _location(spec: ModuleSpec) -> Path | None:
    """Return the folder of a package, or the file of a module."""
    folders = list(spec.submodule_search_locations or ())
    if folders:
        return Path(folders[0]).resolve()
    return None if spec.origin is None else Path(spec.origin).resolve()


def _home() -> Path:
    """Return the folder that holds our packages."""
    return Path(recsys.__path__[0]).resolve().parent
