"""Shapes in comments and docstrings use the letters of one table, `recsys/model/gru4rec.py`."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.model import gru4rec

PACKAGES = (
    *("clients/python", "recsys", "service/api", "service/playground", "service/bench"),
    *("training/baselines", "training/evaluation", "training/report", "training/retrieval"),
    *("training/tuning", "tests/properties", "tests/published", "tests/support"),
    *("tests/unit/recsys", "tests/unit/training/baselines", "tests/unit/training/retrieval"),
)
FILES = sorted(path for package in PACKAGES for path in Path(package).rglob("*.py"))
TABLE = Path("recsys/model/gru4rec.py")
SHAPE = re.compile(r"\(([^()\n]+,[^()\n]*)\)")  # a tuple: (B, T, H) or (N,)
SIZE = re.compile(r"[0-9a-zA-Z_]+(?:\s*[·*+-]\s*[0-9a-zA-Z_]+)*")  # N, 2H, gates·H, H + 1
LETTER = re.compile(r"(?<![A-Za-z_])([A-Z])(?![A-Za-z_])")
DEFINITION = re.compile(r"^\s+([A-Z])(?: {2,}|: )(?=[a-z])", re.MULTILINE)  # `    B  batch: rows`


def letters_of_the_table() -> set[str]:
    assert gru4rec.__doc__ is not None
    return set(DEFINITION.findall(gru4rec.__doc__))


def letters_in_shapes(text: str) -> Iterator[tuple[str, str]]:
    """Yield (shape, letter) for each capital letter of each tuple of sizes."""
    for shape in SHAPE.finditer(text):
        sizes = [size.strip() for size in shape.group(1).split(",") if size.strip()]
        letters = [letter for size in sizes for letter in LETTER.findall(size.lstrip("0123456789"))]
        if letters and all(SIZE.fullmatch(size) for size in sizes):
            yield from ((shape.group(0), letter) for letter in letters)


def prose(path: Path) -> Iterator[str]:
    """Yield every docstring and every comment of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def test_the_table_has_eight_letters() -> None:
    assert letters_of_the_table() == set("BTHLNSKC")


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("clicks: (B, T) int64", "BT"),
        ("(gates·H, input_width), bias (N,)", "HN"),
        ("(L, B, 2H) and (N, H + 1)", "LBHNH"),
        ("(Jozefowicz et al., ICML 2015)", ""),
        ("softmax(scores, dim=1), f(x, y)", ""),
    ],
)
def test_letters_are_found_in_shapes_only(text: str, letters: str) -> None:
    assert [letter for _, letter in letters_in_shapes(text)] == list(letters)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_shapes_use_letters_of_the_table(path: Path) -> None:
    table = letters_of_the_table()
    unknown = [
        f"{shape}: {letter}"
        for text in prose(path)
        for shape, letter in letters_in_shapes(text)
        if letter not in table
    ]

    assert not unknown, f"{path}: {unknown}. Use {' '.join(sorted(table))} or spell the size out."


@pytest.mark.parametrize("path", [path for path in FILES if path != TABLE], ids=str)
def test_no_other_module_defines_a_letter(path: Path) -> None:
    defined = [
        letter
        for text in prose(path)
        for letter in [*DEFINITION.findall(text), *re.findall(r"^#\s+([A-Z])[,:] (?=[a-z])", text)]
    ]

    assert not defined, f"{path} defines {defined}. Spell the size out."
