"""The site of the documents is complete, links nowhere else, and works from a disk."""

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from recsys import __version__
from tests.browser.browsers import MISSING, PHONE, STEADY, find_chromium, visiting
from tests.support.documents.html_page import Page
from tests.support.documents.markdown import PAGES, ROOT
from tests.support.documents.small_runs import run_program

EARLIER = "0.0.9"
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site beside that of an earlier version."""
    out = tmp_path_factory.mktemp("sites")
    (out / EARLIER).mkdir()
    (out / EARLIER / "README.html").write_text("<title>earlier</title>")
    run_program([sys.executable, str(ROOT / "docs/site/build.py"), "--out", str(out)], out, "site")
    return out / __version__


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_of_the_repository_is_there_with_its_pictures(site: Path) -> None:
    for path in [*PAGES, ROOT / "docs" / "tutorial.ipynb"]:
        assert (site / path.relative_to(ROOT)).with_suffix(".html").exists(), path
    concepts = (site / "docs" / "concepts.html").read_text(encoding="utf-8")
    assert concepts.count("data:image/svg+xml") == 3
    assert "flowchart" not in concepts


def test_every_link_leads_to_a_file_and_an_anchor(pages: dict[Path, Page]) -> None:
    anchors = {
        path: {e.attributes["id"] for e in page.elements if "id" in e.attributes}
        for path, page in pages.items()
    }
    followed = 0
    for path, page in pages.items():
        for element in page.elements:
            target = element.attributes.get("href") or element.attributes.get("src") or ""
            parts = urlsplit(target)
            if parts.scheme:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert file.exists(), f"{path.name}: {target}"
            if parts.fragment and file in anchors:
                assert unquote(parts.fragment) in anchors[file] | {""}, f"{path.name}: {target}"
            followed += 1
    assert followed > 1000


def test_no_page_loads_anything_from_another_host(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for tag, attribute in LOADING.items():
            for element in page.all(tag):
                scheme = urlsplit(element.attributes.get(attribute, "")).scheme
                assert scheme in ("", "data"), f"{path.name}: {element.attributes}"


def test_it_is_read_and_searched_from_a_disk(site: Path) -> None:
    with sync_playwright() as playwright:
        if (program := find_chromium(playwright)) is None:
            pytest.skip(MISSING)
        browser = playwright.chromium.launch(executable_path=program, args=STEADY)
        home = (site.parent / "index.html").as_uri()
        with visiting(browser, home) as page:
            page.wait_for_url(f"**/{__version__}/README.html")
            page.get_by_placeholder("Search").fill("sentinel")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="Redis: deployments").first.wait_for()
        with visiting(browser, (site / "docs/concepts.html").as_uri(), color_scheme="dark") as page:
            diagram = page.locator(".diagram img").first
            assert diagram.evaluate("image => getComputedStyle(image).filter").startswith("invert")
        with visiting(browser, (site / "docs/operating.html").as_uri(), **PHONE) as page:
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        with visiting(browser, (site / "README.html").as_uri()) as page:
            page.get_by_label("Version").select_option(EARLIER)
            page.wait_for_url(f"**/{EARLIER}/README.html")
        browser.close()
