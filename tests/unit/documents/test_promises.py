"""docs/promises.md names the test of each promise, and each of them exists."""

import re
from pathlib import Path

from tests.soak.run import app as soak

ROOT = Path(__file__).parents[3]


def test_every_promise_is_held_by_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    promised = text.partition("## Figures")[0].splitlines()
    rows = [row for row in promised if row.startswith("| ") and "held by" not in row]
    parts = {getattr(part.callback, "__name__", "") for part in soak.registered_commands}

    assert rows
    for row in rows:
        named = re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)`", row)
        targets = re.findall(r"`make (\w+)`(?: \(([\w, -]+)\))?", row)
        assert named or targets, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
        for _, listed in targets:
            assert {part.replace("-", "_") for part in listed.split(", ") if part} <= parts, row
