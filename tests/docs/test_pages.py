"""Every command of README and documents runs, page by page: `make docs-check`.

Long programs run with smaller numbers (tests/support/documents/small_runs.py), `make` in a copy of
the checkout (tests/support/documents/clean_checkout.py). A block that cannot run here has the
comment `<!-- not run: REASON -->`, with a reason that tests/unit/documents/test_docs_commands.py
lists. That test also checks the blocks that hold no commands.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.synthetic import Shop, write_shop
from service.middleware.auth import hash_of, new_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.documents.clean_checkout import CleanCheckout
from tests.support.documents.doc_runner import PID, REDIS, SERVICE, DocRunner
from tests.support.documents.markdown import READ, Page, answers_of, named
from tests.support.documents.small_runs import run_program
from tests.support.processes import start_fork
from tests.support.service.servers import started
from tests.support.shared_folders import SharedFolders
from tests.support.training.events import DAY_SECONDS, shop_clicks, write_events

BUNDLES = ("10k/bundle", "100k/bundle")
LOGS = ("yoochoose_sep14", "yoochoose1_64", "diginetica")


@pytest.fixture(scope="module")
def workspace(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files that the pages assume, small: clicks, items, `$R`, bundles."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_shop(workspace, makers=1, sessions=300)
    tomorrow = tmp_path_factory.mktemp("tomorrow")
    write_shop(tomorrow, makers=1, sessions=150, seed=2)
    shutil.copy(tomorrow / "clicks.csv", workspace / "tomorrow.csv")
    clicks = pd.read_csv(workspace / "clicks.csv", dtype=str)
    clicks.rename(columns={"session_id": "visitor"}).to_csv(workspace / "users.csv", index=False)
    types = np.resize(["view", "cart", "view", "order"], len(clicks))
    clicks.assign(event_type=types).to_csv(workspace / "events.csv", index=False)
    late = clicks["session_id"].isin(clicks["session_id"].unique()[-30:])
    clicks["split"] = late.map({True: "test", False: "train"})
    for name in LOGS:
        (workspace / "logs" / name).mkdir(parents=True)
        clicks.to_parquet(workspace / "logs" / name / "sessions.parquet", index=False)
    today = int(time.time() // DAY_SECONDS)
    days = [shop_clicks(Shop(makers=1), day, 100, day) for day in range(today - 3, today)]
    write_events(workspace / "events", pd.concat(days))
    for name in BUNDLES:
        shutil.copytree(trained.bundle, workspace / "runs" / name)
    (workspace / "docs").mkdir()
    return workspace


@pytest.fixture(scope="module")
def clone(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> CleanCheckout:
    return CleanCheckout(tmp_path_factory.mktemp("clone") / "session-recsys", trained.bundle)


@pytest.fixture(scope="module")
def running(trained: TrainedShop, redis_server: str) -> Iterator[dict[str, str]]:
    """Start a service for the pages that start none; yield its address and keys."""
    admin_key, catalogue_key, api_key = new_key(), new_key(), new_key()
    hashes = {
        "RECSYS_ADMIN_KEY_HASHES": hash_of(admin_key),
        "RECSYS_CATALOGUE_KEY_HASHES": hash_of(catalogue_key),
    }
    with started(trained.bundle, redis_server, None, start_fork, **hashes) as server:
        yield {
            REDIS: redis_server,
            SERVICE: server.url,
            PID: str(server.pid),
            "http://shop:8000": SERVICE,
            "$ADMIN_KEY": admin_key,
            "$CATALOGUE_KEY": catalogue_key,
            "recsys_…": api_key,
            "sha256:…": hash_of(api_key),
        }


@pytest.mark.parametrize("path", READ, ids=named)
def test_a_page_can_be_followed_from_top_to_bottom(
    path: Path,
    workspace: Path,
    running: dict[str, str],
    clone: CleanCheckout,
    shared_folders: SharedFolders,
    redis_url: str,  # empty: all pages have the same user ada
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page(path)
    folder = tmp_path / "workspace"
    shutil.copytree(workspace, folder)
    for name in ("R", "RECSYS_REAL_DATA"):
        monkeypatch.setenv(name, str(folder / "logs"))
    answers = answers_of(page)
    with DocRunner(folder, running, clone, shared_folders.is_first) as runner:
        for block in page.blocks:
            if block.not_run is not None:
                continue
            if block.language in ("bash", "console"):
                runner.run_commands(block, answers.get(block.line))
            elif block.language == "python":
                runner.run_python(block)
    if runner.not_run:
        pytest.skip(f"All else on the page was run. {' '.join(dict.fromkeys(runner.not_run))}")


def test_a_failing_program_is_reported_with_its_place_and_the_end_of_its_output(
    tmp_path: Path,
) -> None:
    typed = [sys.executable, "-c", "raise SystemExit('no such bundle')"]

    with pytest.raises(AssertionError, match=r"^page.md:7: .* exits with 1\nno such bundle"):
        run_program(typed, tmp_path, "page.md:7")
