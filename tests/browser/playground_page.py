"""Page object of the playground: the clicks of a user, and the texts on the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from service.app import create_app
from service.settings import Settings
from tests.support.service.app_client import PATIENT
from tests.support.service.servers import listening

SHOWN = "performance.getEntriesByName('shown').length"


@contextmanager
def playground_on(bundle: Path, redis: str, **given: object) -> Iterator[str]:
    """Run a service with a playground and yield its URL. Keyword arguments are settings."""
    known = {"bundle": bundle, "redis": redis, "playground": True, **PATIENT, **given}
    settings = Settings(**known)  # type: ignore[arg-type]
    with listening(create_app(settings), settings) as (host, port):
        yield f"http://{host}:{port}"


class Playground:
    """Playground page that shows the first list and the catalogue."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.locator("#likely li").first.wait_for()
        page.locator("#items li").first.wait_for()
        page.locator("#starters button").first.wait_for()
        page.wait_for_function(f"{SHOWN} > 0")  # else it could count as the answer to a click

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Wait after the block until the list that it requests is painted."""
        before = self.page.evaluate(SHOWN)
        yield
        self.page.wait_for_function(f"before => {SHOWN} > before", arg=before)

    def begin(self) -> None:
        """Make the first click of a visit."""
        with self.answered():
            self.page.locator("#starters button").first.click()

    def go_on(self, clicks: int = 1) -> None:
        """Click the likeliest item without an earlier click."""
        for _ in range(clicks):
            with self.answered():
                self.page.locator("#likely li:not(:has(.been)) button").first.click()

    def visit(self, clicks: int) -> None:
        self.begin()
        self.go_on(clicks - 1)

    @property
    def clicked(self) -> list[str]:
        """Names of the clicked items, as the strip shows them."""
        return self.texts("#clicks .name")

    @property
    def likely(self) -> list[str]:
        return self.ids("#likely")

    @property
    def pills(self) -> list[str]:
        return self.texts("#meta .pill")

    @property
    def state(self) -> str:
        """Pixels of the strip of the hidden state."""
        pixels: str = self.page.evaluate("document.getElementById('state').toDataURL()")
        return pixels

    def wait_for_state(self, words: str) -> None:
        self.page.locator("#state-words", has_text=words).wait_for()

    def ids(self, part: str) -> list[str]:
        rows: list[str] = self.page.locator(f"{part} li").evaluate_all(
            "rows => rows.map(row => row.dataset.item)"
        )
        return rows

    def wait_for_list(self, part: str, item_ids: list[str]) -> None:
        """Wait until the list `part` consists of these items in this order."""
        rows = self.page.locator(f"{part} li")
        for place, item_id in enumerate(item_ids):
            expect(rows.nth(place)).to_have_attribute("data-item", item_id)
        expect(rows).to_have_count(len(item_ids))

    def texts(self, part: str) -> list[str]:
        return self.page.locator(part).all_inner_texts()

    def banner(self, words: str) -> Locator:
        return self.page.locator("#banner", has_text=words)
