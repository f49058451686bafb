"""Every code block of README and documents is valid: commands exist, rows can be read.

No command runs here: `make docs-check` runs them, in the order of the page (tests/docs).
"""

import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from data.click_options import ClickOptions
from data.clicks import read_clicks
from tests.support.documents import clean_checkout
from tests.support.documents.command_check import COMPOSE, check_command
from tests.support.documents.markdown import (
    ASSIGNMENT,
    CARD,
    CLUSTER,
    DOCKER,
    PROGRAMS,
    READ,
    ROOT,
    Block,
    Page,
    named,
)
from tests.support.documents.small_runs import SMALLER
from training.recipe import checked_recipe

NOT_RUN = {  # reason → number of blocks on all pages
    CLUSTER: 1,
    DOCKER: 7,
    CARD: 4,
}
DIAGRAMS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")


@pytest.mark.parametrize("path", READ, ids=named)
def test_every_block_is_valid(path: Path, tmp_path: Path) -> None:
    for block in Page(path).blocks:
        match block.language:
            case "bash" | "console":
                check_commands(block)
            case "python":
                compile(block.text, block.place, "exec")
            case "csv":
                rows = tmp_path / "rows.csv"
                rows.write_text(block.text)
                assert len(read_clicks(ClickOptions(rows))) == len(block.text.splitlines()) - 1
            case "toml":
                checked_recipe(tomllib.loads(block.text))
            case "yaml":
                assert yaml.safe_load(block.text) is not None
            case "mermaid":
                check_diagram(block)
            case "json" | "text" | "promql" | "typescript":  # tests/browser/test_typescript.py
                pass
            case language:
                raise AssertionError(f"{block.place}: this test does not know {language!r}")


def check_commands(block: Block) -> None:
    """Check that program, options and target of each command exist."""
    if block.not_run == CLUSTER:
        for line in block.commands:
            assert shlex.split(line)[0] == "kubectl", block.place
        for folder in re.findall(r" -k (\S+)", block.text):
            assert (ROOT / folder / "kustomization.yaml").is_file(), block.place
        return
    if block.not_run == CARD and "docker compose" not in block.text:
        for line in block.commands:
            check_command(shlex.split(line.partition("-m ")[2] or line))
        return
    if block.not_run is not None:
        assert block.not_run in (CARD, DOCKER), block.place
        verbs = set(re.findall(r"docker compose (?:--profile \w+ |-f \S+ )*([a-z]+)", block.text))
        assert verbs, block.place
        assert verbs <= COMPOSE, block.place
        return
    for line in block.commands:
        words = shlex.split(line, comments=True)
        while words and ASSIGNMENT.match(words[0]):
            words.pop(0)
        assert words[0] in PROGRAMS, (
            f"{block.place}: {words[0]} is not run by tests/support/documents/doc_runner.py"
        )
        if words[0] in ("recsys", "make"):
            check_command(words)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), f"{block.place}: there is no {words[1]}"


def check_diagram(block: Block) -> None:
    assert block.text.startswith(DIAGRAMS), block.place
    for opening, closing in ("[]", "()", "{}"):
        assert block.text.count(opening) == block.text.count(closing), block.place


def test_blocks_that_do_not_run_have_a_reason_and_are_counted() -> None:
    reasons = Counter(b.not_run for path in READ for b in Page(path).blocks if b.not_run)

    assert dict(reasons) == NOT_RUN


def test_every_program_with_smaller_numbers_is_on_a_page() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in READ)

    for name in SMALLER:
        folders = ("tests/benchmarks", "examples")
        assert any(f"python {folder}/{name}" in text for folder in folders), name
    for target in (*clean_checkout.SMALLER, *clean_checkout.PYTEST):
        assert f"make {target}" in text, target


def test_commands_named_in_passing_exist() -> None:
    for path in READ:
        for code in Page(path).inline_code:
            words = re.match(r"(recsys|make) ([a-z-]+)", code)
            if words and words[1] == "make":
                check_command(["make", words[2]])
            elif words:
                check_command(["recsys", words[2], "--help"])


def test_the_rows_of_the_readme_are_read_as_documented(tmp_path: Path) -> None:
    (rows,) = [b.text for b in Page(ROOT / "README.md").blocks if b.language == "csv"]
    path = tmp_path / "clicks.csv"
    path.write_text(rows)

    log = read_clicks(ClickOptions(path))

    assert "00123" in log.item_ids
    assert (log.time_ms // 1000).tolist() == [1767225600 + n for n in (0, 40, 45, 85, 90, 130)]
