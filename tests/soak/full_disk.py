"""Disk that fills up during a training run, from the first checkpoint to the last file.

Two methods: a limit on the size of files (RLIMIT_FSIZE), raised step by step, so that the run ends
at each file that is larger; and a small, really full tmpfs, if this machine allows the mount. Each
run must end with exit status 2, one sentence and no partial bundle. With more room, `--resume` must
finish it.
"""

import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.soak.bounds import Bound

QUICK = ("--set", "epochs=1", "--set", "hidden=64", "--set", "negatives=16")
COMMAND = (sys.executable, "-c", "from recsys.cli.main import main; main()", "train")
STEPS = 6
MOUNTED = 'mount -t tmpfs -o size="$1"k none "$2" || exit 77; shift; shift; exec "$@"'
NO_MOUNT = 77


def full_disk(bundle: Path, folder: Path) -> list[Bound]:
    clicks = folder / "clicks.csv"
    _write_clicks(clicks)
    whole = folder / "whole"
    assert _train(clicks, whole).returncode == 0
    sizes = sorted({path.stat().st_size for path in whole.iterdir()})
    limits = [round(sizes[-1] * 1.5 * step / STEPS) for step in range(1, STEPS)]
    wrong, full = [], 0
    for limit in limits:
        out = folder / f"out-{limit}"
        ended = _train(clicks, out, limit=limit)
        full += ended.returncode == 2
        wrong += _complaints(f"{limit:,} bytes", ended, out)
        again = _train(clicks, out, "--resume") if ended.returncode else ended
        if again.returncode:
            wrong.append(f"{limit:,} bytes, then --resume: {again.stderr[-300:]}")
    return [
        Bound(f"{full} of {len(limits)} limits on the size of files reached", "", "> 0", full > 0),
        Bound("no sentence, or a partial bundle", "\n".join(wrong) or "0", "0", not wrong),
        *_mounted(clicks, folder, sum(path.stat().st_size for path in whole.iterdir())),
    ]


def _mounted(clicks: Path, folder: Path, needed: int) -> list[Bound]:
    """Train on a tmpfs in a mount namespace of its own, which disappears with the process."""
    mount, wrong, full = folder / "disk", [], 0
    mount.mkdir()
    for share in (0.3, 0.6, 0.9):
        out = mount / "out"
        kilobytes = str(round(needed * share / 1024))
        inside = ("unshare", "-m", "sh", "-c", MOUNTED, "sh", kilobytes, str(mount))
        ended = _train(clicks, out, inside=inside)
        if ended.returncode == NO_MOUNT or ended.stderr.startswith("unshare:"):
            return [Bound("a full tmpfs", "not measured: this machine allows no mount")]
        full += ended.returncode == 2
        wrong += _complaints(f"a disk of {kilobytes} kB", ended, out)
    return [
        Bound("a full tmpfs, of 3", str(full), "3", full == 3),
        Bound("no sentence", "\n".join(wrong) or "0", "0", not wrong),
    ]


def _write_clicks(path: Path) -> None:
    rows = [["session_id", "item_id", "timestamp"]]
    rows += [[f"t{n // 3}", f"item-{n * 7 % 400}", str(1767225600 + n)] for n in range(1500)]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def _train(
    clicks: Path, out: Path, *more: str, limit: int | None = None, inside: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    command = [*inside, *COMMAND, "--clicks", str(clicks), "--out", str(out), *QUICK, *more]
    limited = None if limit is None else partial(_limit, limit)
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ, preexec_fn=limited, check=False
    )


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _complaints(name: str, ended: "subprocess.CompletedProcess[str]", out: Path) -> list[str]:
    if ended.returncode == 0:
        return []
    one_sentence = "cannot be written" in ended.stderr and "Traceback" not in ended.stderr
    if ended.returncode == 2 and one_sentence and not out.exists():
        return []
    shutil.rmtree(out, ignore_errors=True)
    return [f"{name}: {ended.returncode}, {ended.stderr.strip()[-300:]}"]
