"""Browser that fails a test on console errors and on requests to other hosts.

Playwright drives the Chromium of this machine, packaged by Debian or installed by Playwright.
`make browser` installs one.
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
MISSING = "There is no Chromium: the browser tests are skipped. make browser installs one."
STEADY = ["--disable-lcd-text", "--font-render-hinting=none"]  # same letters on all machines
PATIENCE_MS = 20_000  # on a busy machine
# without animations, tests need not wait for them
DESK: dict[str, Any] = {"viewport": {"width": 1360, "height": 900}, "reduced_motion": "reduce"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def find_chromium(playwright: Playwright) -> str | None:
    """Return the Chromium of the system, or of Playwright, or None."""
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    bundled = playwright.chromium.executable_path
    return installed or (bundled if Path(bundled).exists() else None)


@contextmanager
def visiting(
    browser: Browser,
    url: str,
    *,
    tolerated: str = "",
    goes: bool = True,
    also: str = "data:",
    **context: Any,
) -> Iterator[Page]:
    """Open a page in a fresh browser context; raise afterwards if it had errors.

    tolerated: text of a console error that the test causes.
    goes: whether to go to the URL at once; otherwise the test does it.
    also: another origin that the page may call.
    """
    problems: list[str] = []
    origin = urljoin(url, "/")

    def check(request: Request) -> None:
        if not request.url.startswith((origin, "data:", also)):
            problems.append(f"requests {request.url}")

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def fail(error: Error) -> None:
        problems.append(str(error))

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
    assert not [text for text in problems if not tolerated or tolerated not in text]


def breaches(page: Page) -> list[str]:
    """Return the accessibility violations that axe-core finds on a page."""
    violations = Axe().run(page).response["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in violations]


def main() -> int:
    """Print which browser the tests use; exit with 1 if there is none."""
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
    sys.stdout.write(f"The browser tests use {program}.\n" if program else f"{MISSING}\n")
    return 0 if program else 1


if __name__ == "__main__":
    sys.exit(main())
