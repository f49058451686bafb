"""The names that docs/glossary.md gives in its column "in code" are in the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("clients/python", "recsys", "data", "training", "service")
IDENTIFIER = re.compile(r"[A-Za-z_]+(\(\))?")


def test_every_name_of_the_glossary_is_in_the_code() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| **")]
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in modules)
    names = {name for row in rows for name in re.findall(r"`([^`]+)`", row[2])}

    assert len(rows) > 30
    for name in names:
        if IDENTIFIER.fullmatch(name):
            assert re.search(rf"\b{name.removesuffix('()')}\b", code), name


def test_words_of_the_glossary_are_in_alphabetical_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"^\| \*\*(.+?)\*\*", text, re.MULTILINE)]

    assert words == sorted(words)
