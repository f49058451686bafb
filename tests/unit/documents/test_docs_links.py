"""The targets of a page exist: files, anchors, and names in code."""

import re
from pathlib import Path
from urllib.parse import urlparse

import pytest

from service.settings import Settings
from tests.support.documents.markdown import PAGES, ROOT, Page, named

FILES = re.compile(r"(?:recsys|data|training|service|tests|docker|docs)/[\w./-]*")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_targets_of_links_exist(path: Path) -> None:
    page = Page(path)
    for link in page.links:
        place, _, anchor = link.partition("#")
        if urlparse(link).scheme:
            assert urlparse(link).scheme == "https", link
            continue
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        if anchor:
            assert anchor in Page(target).anchors, link


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_settings_and_tests_that_are_named_in_code_exist(path: Path) -> None:
    variables = {f"RECSYS_{name.upper()}" for name in Settings.model_fields} | {"RECSYS_REAL_DATA"}
    variables |= set(re.findall(r"RECSYS_[A-Z_]+", (ROOT / ".env.example").read_text()))
    tests = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("tests/**/test_*.py"))
    for code in Page(path).inline_code:
        if FILES.fullmatch(code):
            assert (ROOT / code).exists() or (path.parent / code).exists(), code
        for variable in re.findall(r"RECSYS_[A-Z_]+[A-Z]", code):
            assert variable in variables, code
        if re.fullmatch(r"test_\w+…?", code):
            assert f"def {code.rstrip('…')}" in tests, code


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".md" or not path.exists():
            continue
        reached.add(path)
        waiting += [
            (path.parent / link.partition("#")[0]).resolve()
            for link in Page(path).links
            if not urlparse(link).scheme
        ]
    assert set(ROOT.glob("docs/*.md")) <= reached


def test_anchors_follow_from_headings(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# How much\n\n## `recsys key`, and why\n\n## How much\n")

    assert Page(path).anchors == {"how-much", "recsys-key-and-why", "how-much-1"}
