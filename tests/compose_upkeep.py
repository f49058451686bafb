"""What docs/operating.md tells people to type, typed: backup, and an upgrade without a gap.

Each claim takes the project, says in a few words what was found, and raises `AssertionError` where
it does not hold.
"""

import re
import tempfile
import time
from pathlib import Path

from compose_load import failures, under_load
from compose_project import ROOT, Project
from compose_writer import Writer

RATE = 50.0  # requests/s meanwhile
PATIENCE = 30.0


def told(heading: str) -> list[str]:
    """The commands under that heading, block by block."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


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
