"""Check that Python finds our packages and not a file or package of the user with the same name.

`data`, `training` and `service` are common names. A `data.py` in the folder where Python starts
comes first on `sys.path` and hides ours. This module knows nothing of what the packages do.
"""

import importlib.util
import sys
from pathlib import Path

import recsys_client
from recsys import __version__
from recsys.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]  # the folder that holds `recsys` and its neighbours
PACKAGES = ("data", "training", "service")


def leave_out_current_folder() -> None:
    """Take the current folder off the search path, where `python -m` has put it.

    The console script `recsys` does not search it either. A checkout of this project stays.
    """
    if sys.flags.safe_path or not sys.path:
        return
    first = Path(sys.path[0]).resolve()
    if first == Path.cwd().resolve() and first != ROOT:
        del sys.path[0]


def check_packages() -> None:
    """Raise `BadInput` with every file or folder that hides one of our packages.

    Raises:
        BadInput: a package is hidden or not installed, or the client is of another version.
    """
    problems = []
    for name in PACKAGES:
        location = _location(name)
        if location is None:
            problems.append(f"the package {name!r} is not in {ROOT}. Install session-recsys again.")
        elif not location.is_relative_to(ROOT / name):
            problems.append(
                f"{location} is found instead of the package {name!r} in {ROOT}. Rename it, or "
                "take its folder off PYTHONPATH. Python searches the folder of a script or a "
                "notebook, too."
            )
    if recsys_client.__version__ != __version__:
        problems.append(
            f"{recsys_client.__file__} is of version {recsys_client.__version__}, but "
            f"session-recsys is {__version__}. Uninstall session-recsys-client, then install "
            "session-recsys again, which has the client."
        )
    if problems:
        raise BadInput("The packages of session-recsys are shadowed", problems)


def _location(name: str) -> Path | None:
    """Return the folder of the package, or the file of the module, that has this name."""
    module = sys.modules.get(name)
    if module is not None:
        places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        places = [*(spec.submodule_search_locations or ()), spec.origin]
    return next((Path(place).resolve() for place in places if place), None)
