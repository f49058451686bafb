"""Run the commands of docs/operating.md: roll out and back, backup, upgrades.

Each check takes the project, returns what it measured in a few words, and raises `AssertionError`
if the claim does not hold.
"""

import re
import tempfile
import time
from pathlib import Path

from data.synthetic import write_shop
from tests.compose.click_writer import ClickWriter
from tests.compose.faults import await_another, model_of
from tests.compose.load import failures, under_load
from tests.compose.project import READY_SECONDS, ROOT, Project

PULL = "git pull && "  # left out, so that the checkout stays as it is
CLICKS, FOLDER = "CLICKS=/srv/shop", "20261101-120000"  # on the page; replaced by the real ones
SMALLER = " --set epochs=1 --set refit=false"
RATE = 50.0  # requests/s during the upgrade
PATIENCE = 30.0


def commands_under(heading: str, page: str = "operating.md") -> list[str]:
    """Return the commands under a heading of the page, one text for each block."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def rolled_out_and_back(project: Project) -> str:
    """Train a bundle on clicks and items, serve it, then make the previous one current again."""
    train, back = commands_under("Roll out and back")
    assert CLICKS in train, train
    assert FOLDER in back, back
    old = model_of(project)
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        shop.mkdir()
        write_shop(shop, makers=2, sessions=4000)
        Path(folder).chmod(0o755)  # the container's user is another one
        listed = _bundles(project("exec", "-T", "api", "ls", "/bundles"))
        before = project("exec", "-T", "api", "cat", "/bundles/current").strip()
        typed = train.replace(CLICKS, f"CLICKS={shop}").rstrip() + SMALLER
        project.shell(without_terminal(typed), Path(folder))
        new = await_another(project, old)
        listing = project.shell(without_terminal(back.replace(FOLDER, before)), Path(folder))
    assert _bundles(listing) - listed, f"ls shows no new bundle: {listing}"
    assert before in _bundles(listing), listing
    assert await_another(project, new) == old, "the roll-back took something else"
    return f"{old} → {new} → {old}, back to {before}"


def without_terminal(script: str) -> str:
    """Add -T to the commands: no terminal is here, and older versions of Compose need one."""
    return re.sub(r"docker compose (--profile \w+ )?(exec|run)\b", r"\g<0> -T", script)


def _bundles(listing: str) -> set[str]:
    """Return the bundle folders in the output of ls."""
    return set(re.findall(r"^\d{8}-\d{6}\S*$", listing, re.MULTILINE))


def backed_up_and_restored(project: Project, writer: ClickWriter) -> str:
    """Back up, delete all keys, restore."""
    backup, restore = commands_under("Backup of Redis")
    with tempfile.TemporaryDirectory() as folder:
        project.shell(backup, Path(folder))
        size = (Path(folder) / "redis.rdb").stat().st_size
        # in one step: the service and the collector write meanwhile
        script = "redis.call('flushall') return redis.call('dbsize')"
        assert project.redis("eval", script, "0") == "0"
        project.shell(restore, Path(folder))
    latest = time.monotonic() + PATIENCE
    while '"redis":"ok"' not in project.text_of("/health/ready"):
        assert time.monotonic() < latest, "Redis does not come back"
        time.sleep(0.2)
    time.sleep(6)  # the API reads the secret of Redis every 5 s
    return f"{size:,} bytes; {writer.check()}"


def replaced(project: Project, build: bool) -> str:
    """Rebuild the images if `build`, and replace the containers whose images changed."""
    script, _ = commands_under("Upgrade")
    assert script.startswith(PULL), script
    typed = script.removeprefix(PULL)
    if not build:
        built, _, typed = typed.partition("\n")
        assert built == "docker compose build", built
    with tempfile.TemporaryDirectory() as folder:
        project.shell(typed, Path(folder))
    latest = time.monotonic() + READY_SECONDS
    while not project.ready():
        assert time.monotonic() < latest, "it does not answer after the upgrade"
        time.sleep(0.2)
    return f"model {model_of(project)} answers" + ("" if build else "; images as they were")


def replaced_without_a_gap(project: Project) -> str:
    """Start new containers beside the old ones, then remove the old ones, under load."""
    before = set(project.containers("api"))
    _, script = commands_under("Upgrade")
    with tempfile.TemporaryDirectory() as folder, under_load(project, RATE) as blocks:
        project.shell(script, Path(folder))
    now = set(project.containers("api"))
    assert not before & now, "an old container is still there"
    assert now, "no container is there"
    assert not failures(blocks), f"failed: {failures(blocks)}"
    return f"{sum(block.answers for block in blocks):,} answers meanwhile, none failed"
