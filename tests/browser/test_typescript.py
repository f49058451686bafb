"""The TypeScript client is generated, refuses wrong programs, and works in browser and Node.

`make typescript` installs its compiler; without one, these tests are skipped.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect

from recsys_client import Client
from service.app import create_app
from service.middleware.auth import hash_of, new_key
from service.settings import Settings
from tests.browser.browsers import breaches, visiting
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.documents.markdown import ROOT
from tests.support.documents.markdown import Page as MarkdownPage
from tests.support.service.app_client import PATIENT
from tests.support.service.servers import listening
from tests.support.typescript_client import (
    COMPILER,
    FOLDER,
    GENERATED,
    MISSING,
    compile_all,
    generate,
    is_installed,
    run_node,
)

WRONG = Path(__file__).parent / "wrong_client.ts"
EXAMPLE = next(
    block.text
    for block in MarkdownPage(ROOT / "docs/client.md").blocks
    if block.language == "typescript"
)
DIAGNOSTIC = re.compile(r"^\S*?(\w+\.ts)\((\d+),\d+\): error (TS\d+): .*$", re.MULTILINE)
EXPECTED = re.compile(r"; // (TS\d+)$")
REFUSED = "Failed to load resource: the server responded with a status of 4"

pytestmark = pytest.mark.skipif(not is_installed(), reason=MISSING)


@pytest.fixture(scope="module")
def compiled() -> None:
    compile_all()


@pytest.fixture(scope="module")
def program(compiled: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project that has the client installed from its folder."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "session-recsys-client").symlink_to(FOLDER)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def test_the_client_is_what_the_generator_makes_now(tmp_path: Path) -> None:
    generate(tmp_path / "generated")

    assert texts(tmp_path / "generated") == texts(GENERATED), "make ts-client"


def texts(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.ts")}


def test_wrong_programs_are_refused_and_the_documented_one_is_not(program: Path) -> None:
    shutil.copy(WRONG, program)
    (program / "documented.ts").write_text(EXAMPLE)
    strict = {
        "extends": str(FOLDER / "tsconfig.json"),
        "compilerOptions": {"rootDir": ".", "noEmit": True},
        "include": [WRONG.name, "documented.ts"],
    }
    (program / "tsconfig.json").write_text(json.dumps(strict))

    ran = run_node(COMPILER, "--project", str(program), "--pretty", "false")

    lines = enumerate(WRONG.read_text().splitlines(), 1)
    expected = [(WRONG.name, n, code[1]) for n, line in lines if (code := EXPECTED.search(line))]
    found = [(name, int(line), code) for name, line, code in DIAGNOSTIC.findall(ran.stdout)]
    assert found == expected, ran.stdout


def test_the_documented_program_runs_in_node(
    program: Path, trained: TrainedShop, redis_server: str
) -> None:
    key = new_key()
    with serving(trained.bundle, redis_server, api_key_hashes=[hash_of(key)]) as url:
        (program / "run.ts").write_text(EXAMPLE.replace("http://127.0.0.1:8000", url))
        refused = run_node(program / "run.ts")
        (program / "run.ts").write_text((program / "run.ts").read_text().replace("recsys_KEY", key))
        ran = run_node(program / "run.ts")
        with Client(url, api_key=key) as client:
            expected = [one.item_id for one in client.recommend(user_id="ada", k=5).items]

    assert refused.stderr.startswith("401 Unauthorized: The key is not valid.")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == expected, ran.stderr


def test_a_page_of_an_allowed_origin_shows_lists_and_refusals(
    compiled: None, chromium: Browser, trained: TrainedShop, redis_server: str
) -> None:
    key = new_key()
    with (
        static_files(FOLDER) as shop,
        serving(
            trained.bundle, redis_server, api_key_hashes=[hash_of(key)], cors_origins=[shop]
        ) as url,
        visiting(chromium, f"{shop}/example/index.html", also=url, tolerated=REFUSED) as page,
        Client(url, api_key=key) as client,
    ):
        page.get_by_label("Service").fill(url)
        page.get_by_label("User").fill("grace")
        connect(page)
        expect(page.get_by_role("alert")).to_have_text(re.compile("^401 Unauthorized.*needs a key"))

        page.get_by_label("API key").fill(key)
        connect(page)
        expect(page.locator("#items button")).to_have_count(5)
        expect(page.get_by_role("alert")).to_be_empty()
        clicked = page.locator("#items button").first.get_attribute("data-item")
        page.locator("#items button").first.click()
        expect(page.locator("#source")).to_have_text("model")
        expected = client.recommend(user_id="grace", k=5).items
        shown = page.locator("#list li").evaluate_all("all => all.map(one => one.dataset.item)")
        assert shown == [item.item_id for item in expected]
        assert [click.item_id for click in client.user("grace").clicks] == [clicked]
        assert breaches(page) == []

        page.get_by_label("User").fill("a/b")
        page.locator("#items button").first.click()
        expect(page.get_by_role("alert")).to_contain_text("422 Unprocessable")
        expect(page.get_by_role("alert")).to_contain_text("user_id: must not contain '/'")


def connect(page: Page) -> None:
    page.get_by_role("button", name="Connect").click()


@contextmanager
def serving(bundle: Path, redis: str, **given: object) -> Iterator[str]:
    """Run a service and yield its URL. Keyword arguments are settings."""
    known = {"bundle": bundle, "redis": redis, **PATIENT, **given}
    settings = Settings(**known)  # type: ignore[arg-type]
    with listening(create_app(settings), settings) as (host, port):
        yield f"http://{host}:{port}"


@contextmanager
def static_files(folder: Path) -> Iterator[str]:
    """Serve a folder as another origin than the service, and yield its URL."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
