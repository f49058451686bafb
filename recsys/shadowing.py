"""Check that Python finds our packages and not a file or package of the user with the same name.

`data`, `training` and `service` are generic names. A `data.py` in the folder where Python starts
comes first on `sys.path` and hides ours. This module knows nothing of what the packages do.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from recsys.errors import RecsysError

ROOT = Path(__file__).resolve().parents[1]  # the folder that holds `recsys` and its neighbours
PACKAGES = ("data", "training", "service")


def check_packages(names: Sequence[str] = PACKAGES) -> None:
    """Raise `RecsysError` if another file or package hides one of our packages; it names the file.

    Args:
        names: the packages that the caller is about to import.

    Raises:
        RecsysError: a package is hidden or not installed.
    """
    for name in names:
        found = _location(name)
        if found is None:
            raise RecsysError(
                f"The package {name!r} of session-recsys is missing: it should be beside "
                f"{ROOT / 'recsys'}. Install session-recsys again."
            )
        if not found.is_relative_to(ROOT / name):
            raise RecsysError(
                f"{found} hides the package {name!r} of session-recsys, because Python finds it "
                "first. Rename it, or start Python in another folder."
            )


def _location(name: str) -> Path | None:
    """Return the file or folder that Python has imported or would import under this name."""
    module = sys.modules.get(name)
    if module is not None:
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        places = [spec.origin, *(spec.submodule_search_locations or ())]
    return next((Path(place).resolve() for place in places if place), None)
