"""A browser that watches itself: no error on its console, no request to any other host.

Playwright drives the Chromium that is on this machine, as Debian packages it or as Playwright
installs it. `make browser` sees to one.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "There is no Chromium here: the browser tests are left out. make browser installs one."
STEADY = ["--disable-lcd-text", "--font-render-hinting=none"]  # letters look alike everywhere
PATIENCE_MS = 20_000  # on a busy machine
# where nothing moves, nothing has to be waited for
DESK: dict[str, Any] = {"viewport": {"width": 1360, "height": 900}, "reduced_motion": "reduce"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def find_chromium(playwright: Playwright) -> str | None:
    """Debian's before Playwright's own; None where there is neither."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    own = playwright.chromium.executable_path
    return found or (own if Path(own).exists() else None)


@contextmanager
def visiting(
    browser: Browser, url: str, *, tolerated: str = "", goes: bool = True, **context: Any
) -> Iterator[Page]:
    """A page at this address, as nobody has been there; raises afterwards if it misbehaved.

    tolerated: words that excuse an error on the console, where the test brings it about;
    goes: else the test goes there itself.
    """
    seen: list[str] = []
    origin = urljoin(url, "/")

    def check(request: Request) -> None:
        if not request.url.startswith((origin, "data:")):
            seen.append(f"asks {request.url}")

    def hear(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            seen.append(said.text)

    def fail(error: Error) -> None:
        seen.append(str(error))

    opened = browser.new_context(**{**DESK, **context})
    try:
        opened.set_default_timeout(PATIENCE_MS)
        page = opened.new_page()
        page.on("request", check)
        page.on("console", hear)
        page.on("pageerror", fail)
        if goes:
            page.goto(url)
        yield page
    finally:
        opened.close()
    assert not [said for said in seen if not tolerated or tolerated not in said]


def breaches(page: Page) -> list[str]:
    """What axe-core finds wrong for those who use the page by ear, by keyboard or with bad eyes."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]


def main() -> int:
    """Say which browser the tests take; 1 where there is none."""
    with sync_playwright() as playwright:
        found = find_chromium(playwright)
    sys.stdout.write(f"The browser tests take {found}.\n" if found else f"{MISSING}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
