"""Every command and every code block of README and documents is run by the Reader, page by page.

What takes minutes is run in small (tests/small_runs.py), `make` in a copy (tests/yard.py). What
cannot be run here says so above the block, `<!-- not run: REASON -->`, with a reason of `NOT_RUN`.
"""

import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
import yard
from command_check import COMPOSE, check_command
from conftest import TrainedShop
from markdown import PAGES, ROOT, Block, Page, answers_of
from reader import PID, REDIS, SERVICE, Reader
from servers import started
from small_runs import SMALLER, run_program

from data.clicks import read_clicks
from data.columns import Columns
from data.synthetic import write_shop
from service.access import hash_of, new_key
from training.recipe import checked_recipe

READ = [path for path in PAGES if path.name != "CHANGELOG.md"]
DOCKER = "needs Docker, where make compose-check types it"
NOT_RUN = {  # reason → how many blocks of all pages
    DOCKER: 6,
}
LANGUAGES = {
    "bash",
    "console",
    "json",
    "csv",
    "toml",
    "yaml",
    "python",
    "mermaid",
    "text",
    "promql",
}
BUNDLES = ("10k/bundle", "100k/bundle")
LOGS = ("yoochoose_sep14", "yoochoose1_64", "diginetica")
DIAGRAMS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")


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
def clone(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> yard.Yard:
    return yard.Yard(tmp_path_factory.mktemp("clone") / "session-recsys", trained.bundle)


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


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_can_be_followed_from_top_to_bottom(
    path: Path,
    desk: Path,
    running: dict[str, str],
    clone: yard.Yard,
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
            assert block.language in LANGUAGES, f"{block.place}: say what {block.language!r} is"
            if block.language in ("bash", "console"):
                follow(reader, block, answers.get(block.line))
            elif block.language == "python":
                reader.run(block)
            else:
                look_at(block, folder)
    if reader.left:
        pytest.skip(f"All else on the page was run. {' '.join(dict.fromkeys(reader.left))}")


def follow(reader: Reader, block: Block, answer: object) -> None:
    """Run it; where it says that it cannot be run, see that it could be typed."""
    if block.not_run is None:
        reader.type(block, answer)
        return
    assert block.not_run == DOCKER, block.place
    verbs = set(re.findall(r"docker compose ([a-z]+)", block.text))
    assert verbs
    assert verbs <= COMPOSE, block.place


def look_at(block: Block, folder: Path) -> None:
    """What is no command is still what it says: rows that can be read, settings that exist."""
    if block.language == "csv":
        rows = folder / "rows.csv"
        rows.write_text(block.text)
        assert len(read_clicks(rows, Columns())) == len(block.text.splitlines()) - 1
    elif block.language == "toml":
        checked_recipe(tomllib.loads(block.text))
    elif block.language == "yaml":
        assert yaml.safe_load(block.text) is not None
    elif block.language == "mermaid":
        assert block.text.startswith(DIAGRAMS), block.place
        for opening, closing in ("[]", "()", "{}"):
            assert block.text.count(opening) == block.text.count(closing), block.place


def test_what_is_not_run_says_why_and_is_counted() -> None:
    reasons = Counter(b.not_run for path in READ for b in Page(path).blocks if b.not_run)

    assert dict(reasons) == NOT_RUN


def test_a_program_that_fails_is_told_with_its_place_and_its_last_words(tmp_path: Path) -> None:
    typed = [sys.executable, "-c", "raise SystemExit('no such bundle')"]

    with pytest.raises(AssertionError, match=r"^page.md:7: .* exits with 1\nno such bundle"):
        run_program(typed, tmp_path, "page.md:7")


def test_what_is_made_small_is_on_a_page() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in READ)

    for name in SMALLER:
        assert f"python tests/{name}" in text, name
    for target in (*yard.SMALLER, *yard.PYTEST):
        assert f"make {target}" in text, target


def test_commands_named_in_passing_exist() -> None:
    for path in READ:
        for code in Page(path).inline_code:
            words = re.match(r"(recsys|make) ([a-z-]+)", code)
            if words and words[1] == "make":
                check_command(["make", words[2]])
            elif words:
                check_command(["recsys", words[2], "--help"])


def test_rows_of_the_readme_are_read_as_it_says(tmp_path: Path) -> None:
    (rows,) = [b.text for b in Page(ROOT / "README.md").blocks if b.language == "csv"]
    path = tmp_path / "clicks.csv"
    path.write_text(rows)

    log = read_clicks(path, Columns())

    assert "00123" in log.item_ids
    assert (log.time_ms // 1000).tolist() == [1767225600 + n for n in (0, 40, 45, 85, 90, 130)]
