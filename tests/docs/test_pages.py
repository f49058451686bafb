"""Every command of README and documents is run by the Reader, page by page: `make docs-check`.

What takes minutes is run in small (tests/support/documents/small_runs.py), `make` in a copy
(tests/support/documents/clean_checkout.py). What cannot be run here says so above the block, `<!--
not run: REASON -->`, with a reason that tests/unit/documents/test_docs_commands.py knows. That test
also looks at the blocks that are no commands.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from data.synthetic import write_shop
from service.middleware.auth import hash_of, new_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.documents import clean_checkout
from tests.support.documents.doc_runner import PID, REDIS, SERVICE, Reader
from tests.support.documents.markdown import READ, Page, answers_of, named
from tests.support.documents.small_runs import run_program
from tests.support.service.servers import started

BUNDLES = ("10k/bundle", "100k/bundle")
LOGS = ("yoochoose_sep14", "yoochoose1_64", "diginetica")


@pytest.fixture(scope="module")
def desk(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages take for granted, small: clicks of today and tomorrow, items, `$R`, bundles."""
    desk = tmp_path_factory.mktemp("desk")
    write_shop(desk, makers=1, sessions=300)
    tomorrow = tmp_path_factory.mktemp("tomorrow")
    write_shop(tomorrow, makers=1, sessions=150, seed=2)
    shutil.copy(tomorrow / "clicks.csv", desk / "tomorrow.csv")
    clicks = pd.read_csv(desk / "clicks.csv", dtype=str)
    clicks.rename(columns={"session_id": "visitor"}).to_csv(desk / "users.csv", index=False)
    clicks.assign(event_type="view").to_csv(desk / "events.csv", index=False)
    late = clicks["session_id"].isin(clicks["session_id"].unique()[-30:])
    clicks["split"] = late.map({True: "test", False: "train"})
    for name in LOGS:
        (desk / "logs" / name).mkdir(parents=True)
        clicks.to_parquet(desk / "logs" / name / "sessions.parquet", index=False)
    for name in BUNDLES:
        shutil.copytree(trained.bundle, desk / "runs" / name)
    (desk / "docs").mkdir()
    return desk


@pytest.fixture(scope="module")
def clone(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> clean_checkout.Yard:
    return clean_checkout.Yard(tmp_path_factory.mktemp("clone") / "session-recsys", trained.bundle)


@pytest.fixture(scope="module")
def once() -> set[str]:
    """Scripts that pages have run already: some are named by several."""
    return set()


@pytest.fixture(scope="module")
def running(trained: TrainedShop, redis_server: str) -> Iterator[dict[str, str]]:
    """A service for the pages that start none: where it is, and a key to it."""
    admin_key, api_key = new_key(), new_key()
    hashes = {"RECSYS_ADMIN_KEY_HASHES": hash_of(admin_key)}
    with started(trained.bundle, redis_server, None, **hashes) as server:
        yield {
            REDIS: redis_server,
            SERVICE: server.url,
            PID: str(server.pid),
            "http://shop:8000": SERVICE,
            "$ADMIN_KEY": admin_key,
            "recsys_…": api_key,
            "sha256:…": hash_of(api_key),
        }


@pytest.mark.parametrize("path", READ, ids=named)
def test_a_page_can_be_followed_from_top_to_bottom(
    path: Path,
    desk: Path,
    running: dict[str, str],
    clone: clean_checkout.Yard,
    once: set[str],
    redis_url: str,  # with nobody in it: pages have the same ada, and forget her
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page(path)
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder)
    for name in ("R", "RECSYS_REAL_DATA"):
        monkeypatch.setenv(name, str(folder / "logs"))
    answers = answers_of(page)
    with Reader(folder, running, clone, once) as reader:
        for block in page.blocks:
            if block.not_run is not None:
                continue
            if block.language in ("bash", "console"):
                reader.type(block, answers.get(block.line))
            elif block.language == "python":
                reader.run(block)
    if reader.left:
        pytest.skip(f"All else on the page was run. {' '.join(dict.fromkeys(reader.left))}")


def test_a_program_that_fails_is_told_with_its_place_and_its_last_words(tmp_path: Path) -> None:
    typed = [sys.executable, "-c", "raise SystemExit('no such bundle')"]

    with pytest.raises(AssertionError, match=r"^page.md:7: .* exits with 1\nno such bundle"):
        run_program(typed, tmp_path, "page.md:7")
