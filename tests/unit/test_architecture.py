"""The tree is what the README says: import directions, private names, one home for TorchScript."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("recsys", "data", "training", "service")
MAY_IMPORT = {
    "recsys": set(),
    "data": {"recsys"},
    "training": {"recsys", "data"},
    "service": {"recsys"},
}
COMPOSITION_ROOT = "recsys/cli/"
MODULES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, lazily or not."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_one_way(name: str) -> None:
    if name.startswith(COMPOSITION_ROOT):
        pytest.skip("the command line stands above the layers")
    package = name.partition("/")[0]

    assert imported(ROOT / name) & set(PACKAGES) <= MAY_IMPORT[package] | {package}


def test_the_service_needs_no_pandas() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        assert "pandas" not in imported(path), path
    for name in NAMES:
        if name.startswith("recsys/") and not name.startswith(COMPOSITION_ROOT):
            assert "pandas" not in imported(ROOT / name), name


def test_torchscript_is_touched_in_two_files_only() -> None:
    touching = {name for name in NAMES if re.search(r"\btorch\.jit\.\w", (ROOT / name).read_text())}

    assert touching == {"training/export.py", "recsys/bundle/load.py"}


def test_two_files_know_the_search_library() -> None:
    knowing = {name for name in NAMES if imported(ROOT / name) & {"optuna", "sqlalchemy"}}

    assert knowing == {"training/tuning/space.py", "training/tuning/study.py"}


def test_private_names_of_libraries_are_these() -> None:
    """Each file has the reason, and pyproject.toml an upper version bound."""
    found = {(name, text) for name in NAMES for text in private_names(ROOT / name)}

    assert found == {
        ("recsys/retrieval/int8.py", "_int_mm"),
        ("recsys/predictor.py", "other._retrieval"),  # another object of the same class
        ("service/server/http_limits.py", "os._exit"),  # public, for all its name
    }


def private_names(path: Path) -> Iterator[str]:
    """Attributes with a leading underscore of anything but `self` and `cls`, and of `getattr`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls"):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_nothing_is_pickled() -> None:
    for name in NAMES:
        text = (ROOT / name).read_text()
        assert not re.search(r"\bpickle\b|torch\.(save|load)\(|allow_pickle=True", text), name


@pytest.mark.parametrize("name", NAMES)
def test_files_open_with_a_paragraph(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(text)), "a file opens by saying what it is"


def test_no_drawers() -> None:
    drawers = ("utils", "util", "helpers", "common", "misc", "base", "core", "manager")

    assert not [name for name in NAMES if Path(name).stem in drawers]


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_ours(package: str) -> None:
    """Four generic names: another distribution's `data` must not be found first."""
    found = importlib.import_module(package).__file__

    assert found is not None
    assert Path(found).is_relative_to(ROOT)


def test_ignore_files_are_anchored() -> None:
    """An unanchored `data/` would drop our package from the wheel and the image, silently."""
    for name in (".gitignore", ".dockerignore"):
        lines = (ROOT / name).read_text().split()
        assert not {"data", "data/", "runs", "runs/", "service", "training"} & set(lines), name
