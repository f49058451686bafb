"""TOML files by name, from those that are shipped with the package, or by path.

`kind` is "recipe" or "space": the files lie in `training/recipes` and `training/spaces`, and the
messages speak of that kind.
"""

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from recsys.errors import Problems


def shipped_names(kind: str) -> list[str]:
    """Names of the built-in files of this kind."""
    folder = resources.files("training") / f"{kind}s"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_toml(chosen: str, kind: str, refusal: type[Problems]) -> dict[str, Any]:
    """The tables of a built-in file or of a path that ends in .toml; raises `refusal`."""
    try:
        return tomllib.loads(_text_of(chosen, kind, refusal))
    except tomllib.TOMLDecodeError as broken:
        raise refusal(
            f"The {kind} cannot be used", [f"{kind} {chosen} is not TOML: {broken}."]
        ) from broken


def _text_of(chosen: str, kind: str, refusal: type[Problems]) -> str:
    path, names = Path(chosen), shipped_names(kind)
    try:
        if path.suffix == ".toml":
            return path.read_text(encoding="utf-8")
        if chosen in names:
            file = resources.files("training") / f"{kind}s" / f"{chosen}.toml"
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as broken:
        raise refusal(f"The {kind} cannot be used", [f"{path}: {broken}."]) from broken
    near = difflib.get_close_matches(chosen, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise refusal(
        f"The {kind} cannot be used",
        [
            f"there is no {kind} {chosen!r}.{hint} Built in: {', '.join(names)}; "
            "or give a file that ends in .toml."
        ],
    )
