"""Shapes in comments and docstrings use the letters of one table, `recsys/model/gru4rec.py`."""

import ast
import re
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
    """Yield every docstring of a module and all that follows a `#`."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""
    yield from re.findall("#.*", source)


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


def test_shapes_use_letters_of_the_table_which_alone_defines_them() -> None:
    table = letters_of_the_table()
    for path in FILES:
        for text in prose(path):
            for shape, letter in letters_in_shapes(text):
                said = (
                    f"{path}: {letter} in {shape}. Use {' '.join(sorted(table))} or spell it out."
                )
                assert letter in table, said
            comment = re.findall(r"^#\s+([A-Z])[,:] (?=[a-z])", text)
            defined = [] if path == TABLE else [*DEFINITION.findall(text), *comment]
            assert not defined, f"{path} defines {defined}. Spell the size out."
