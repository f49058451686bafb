"""What docs/operating.md tells people to type, typed: roll out and back, backup, upgrades.

Each claim takes the project, says in a few words what was found, and raises `AssertionError` where
it does not hold.
"""

import re
import tempfile
import time
from pathlib import Path

from data.synthetic import write_shop
from tests.compose.faults import await_another, model_of
from tests.compose.load import failures, under_load
from tests.compose.project import READY_SECONDS, ROOT, Project
from tests.compose.writer import Writer

FETCHED = "git pull && "  # left out: the checkout that is looked at stays as it is
CLICKS, FOLDER = "CLICKS=/srv/shop", "20261101-120000"  # of the page, for what is there instead
SMALLER = " --set epochs=1 --set refit=false"
RATE = 50.0  # requests/s meanwhile
PATIENCE = 30.0


def told(heading: str) -> list[str]:
    """The commands under that heading, block by block."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def rolled_out_and_back(project: Project) -> str:
    """Trained on a folder of clicks and items, taken up; the bundle before it is named again."""
    train, back = told("Roll out and back")
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
        project.shell(_without_terminal(typed), Path(folder))
        new = await_another(project, old)
        said = project.shell(_without_terminal(back.replace(FOLDER, before)), Path(folder))
    assert _bundles(said) - listed, f"ls shows no new bundle: {said}"
    assert before in _bundles(said), said
    assert await_another(project, new) == old, "the roll-back took something else"
    return f"{old} → {new} → {old}, back to {before}"


def _without_terminal(script: str) -> str:
    """For people Compose makes one; here is none, which the older program would not bear."""
    return re.sub(r"docker compose (exec|run)\b", r"\g<0> -T", script)


def _bundles(said: str) -> set[str]:
    """Folders that ls showed."""
    return set(re.findall(r"^\d{8}-\d{6}\S*$", said, re.MULTILINE))


def backed_up_and_restored(project: Project, writer: Writer) -> str:
    """All is thrown away between the two."""
    backup, restore = told("Backup of Redis")
    with tempfile.TemporaryDirectory() as folder:
        project.shell(backup, Path(folder))
        size = (Path(folder) / "redis.rdb").stat().st_size
        project.redis("flushall")
        assert project.redis("dbsize") == "0"
        project.shell(restore, Path(folder))
    latest = time.monotonic() + PATIENCE
    while '"redis":"ok"' not in project.said_by("/health/ready"):
        assert time.monotonic() < latest, "Redis does not come back"
        time.sleep(0.2)
    time.sleep(6)  # the API looks every 5 s which secret Redis holds
    return f"{size:,} bytes; {writer.check()}"


def replaced(project: Project, build: bool) -> str:
    """The images built anew, if that is wanted, and what runs replaced where they changed."""
    script, _ = told("Upgrade")
    assert script.startswith(FETCHED), script
    typed = script.removeprefix(FETCHED)
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
    """New containers beside the old, then the old are taken away, under load."""
    before = set(project.containers("api"))
    _, script = told("Upgrade")
    with tempfile.TemporaryDirectory() as folder, under_load(project, RATE) as blocks:
        project.shell(script, Path(folder))
    now = set(project.containers("api"))
    assert not before & now, "an old container is still there"
    assert now, "no container is there"
    assert not failures(blocks), f"failed: {failures(blocks)}"
    return f"{sum(block.answers for block in blocks):,} answers meanwhile, none failed"
