"""The tree keeps the house rules: import directions, folders, names, language of docstrings.

import-linter checks the directions inside packages (`make check`, contracts in pyproject.toml).
"""

import ast
import functools
import importlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = "clients/python/"  # folder of a distribution of its own
FOLDERS = (f"{CLIENT}recsys_client", "recsys", "data", "training", "service")
MAY_IMPORT = {
    "recsys_client": set(),
    "recsys": {"recsys_client"},
    "data": {"recsys"},
    "training": {"recsys", "data"},
    "service": {"recsys", "recsys_client"},
}
PACKAGES = tuple(MAY_IMPORT)
COMPOSITION_ROOTS = ("recsys/cli/", "recsys/api/")
MOST_MODULES = 14  # of one folder
MODULES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
LOWER_NAMES = [name for name in NAMES if not name.startswith(COMPOSITION_ROOTS)]
PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in ("data", "docker", "docs") for page in (ROOT / folder).glob("**/*.md")),
]
NOUN_CLAUSE = re.compile(r"(What|Who|Whose|Whoever|How|Where|Those)\b")
ACCESSORS = ("getattr", "setattr")
VAGUE = re.compile(r"\b(nobody|somebody|anybody|everybody|whoever)\b", re.IGNORECASE)


@functools.cache
def tree_of(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


@functools.cache
def imported(name: str) -> frozenset[str]:
    """Return the top-level names of all that a file imports, at its head or inside a function."""
    names: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            names.add((node.module or "").partition(".")[0])
    return frozenset(names)


def test_imports_go_one_way() -> None:
    for name in LOWER_NAMES:
        package = name.removeprefix(CLIENT).partition("/")[0]
        assert imported(name) & set(PACKAGES) <= MAY_IMPORT[package] | {package}, name


def test_serving_needs_no_pandas() -> None:
    for name in LOWER_NAMES:
        if name.startswith(("service/", "recsys/")):
            assert "pandas" not in imported(name), name


def test_two_files_use_torchscript() -> None:
    users = {name for name in NAMES if re.search(r"\btorch\.jit\.\w", (ROOT / name).read_text())}

    assert users == {"training/export.py", "recsys/bundle/load.py"}


def test_two_files_use_the_search_library() -> None:
    users = {name for name in NAMES if imported(name) & {"optuna", "sqlalchemy"}}

    assert users == {"training/tuning/space.py", "training/tuning/study.py"}


def test_private_names_of_libraries_are_these() -> None:
    """Each file has the reason, and pyproject.toml an upper version bound."""
    uses = {(name, text) for name in NAMES for text in private_names(name)}

    assert uses == {
        ("recsys/retrieval/int8.py", "_int_mm"),
        ("recsys/allowed_items.py", "larger._shared"),  # another object of the same class
        ("clients/python/recsys_client/http.py", "client._send"),  # of a class of the same module
        ("recsys/predictor.py", "other._retrieval"),  # another object of the same class
        ("recsys/predictor.py", "other._count_recent"),
        ("recsys/predictor.py", "other._placed"),
        ("recsys/predictor.py", "other._own_bias"),
        ("training/retrieval/build_item_lists.py", "some._codes"),
        ("training/retrieval/build_item_lists.py", "some._items"),
        ("training/retrieval/build_item_lists.py", "self._among(items)._best"),
        # documented in spite of the underscore
        ("service/server/http_limits.py", "os._exit"),
        ("training/parallel/launch.py", "os._exit"),
    }


def test_private_names_stay_in_their_module() -> None:
    """Modules and tests import and replace public names of our modules only."""
    imports = re.compile(r"from (?:recsys|data|training|service)\b[\w.]* import (?:\([^)]*\)|.*)")
    replaced = re.compile(r"""\bsetattr\([a-z]\w*, ["'](_[a-z]\w*)""")
    uses = []
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"\b_[A-Za-z]\w*", " ".join(imports.findall(text)))
        uses += [f"{path.relative_to(ROOT)}: {name}" for name in [*found, *replaced.findall(text)]]

    assert uses == []


def private_names(name: str) -> Iterator[str]:
    """Yield attributes with a leading underscore, except those of `self` and `cls`."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls"):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ACCESSORS:
            attribute = node.args[1]
            if isinstance(attribute, ast.Constant) and is_private(str(attribute.value)):
                yield str(attribute.value)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_nothing_is_pickled() -> None:
    for name in NAMES:
        text = (ROOT / name).read_text()
        assert not re.search(r"\bpickle\b|torch\.(save|load)\(|allow_pickle=True", text), name


def test_every_module_has_a_docstring() -> None:
    assert [name for name in NAMES if not ast.get_docstring(tree_of(name))] == []


def test_no_docstring_opens_with_a_noun_clause() -> None:
    clauses = [
        f"{name}: {docstring.splitlines()[0]}"
        for name in NAMES
        for docstring in docstrings(name)
        if NOUN_CLAUSE.match(docstring)
    ]

    assert clauses == []


def docstrings(name: str) -> Iterator[str]:
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def test_sentences_name_their_subject() -> None:
    """The five words of `VAGUE` do not say who acts. Earlier releases in the changelog stay."""
    lines = [
        f"{path.relative_to(ROOT)}:{at}: {line.strip()}"
        for path in [*MODULES, *PAGES]
        if path.name != "CHANGELOG.md"
        for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if VAGUE.search(line)
    ]

    assert lines == []


def test_a_class_name_has_one_meaning() -> None:
    homes = defaultdict(list)
    for name in NAMES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)

    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_folders_are_small() -> None:
    sizes = Counter(path.parent for path in MODULES if path.name != "__init__.py")

    assert {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_no_module_has_a_name_without_a_subject() -> None:
    vague = ("utils", "util", "helpers", "common", "misc", "base", "core", "manager")

    assert not [name for name in NAMES if Path(name).stem in vague]


@pytest.mark.parametrize("package", PACKAGES)
def test_python_finds_the_packages_of_this_repository(package: str) -> None:
    """The names are generic: another distribution's `data` must not come first."""
    file = importlib.import_module(package).__file__

    assert file is not None
    assert Path(file).is_relative_to(ROOT)


def test_ignore_files_are_anchored() -> None:
    """An unanchored `data/` would drop our package from the wheel and the image, silently."""
    for name in (".gitignore", ".dockerignore"):
        lines = (ROOT / name).read_text().split()
        assert not {"data", "data/", "runs", "runs/", "service", "training"} & set(lines), name
