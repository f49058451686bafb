"""A thousand damaged bundles and two thousand damaged click files: a sentence for each, or use.

They are tried in a process of their own, where a crash and a hang are noticed; some of them by the
real command line. What is still a usable bundle or click file after the damage (a manifest's note,
a letter of an item id) may be used; nothing may end with a traceback or leave half an output.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from data.click_options import ClickOptions
from data.prepare import prepare
from recsys.bundle.golden import open_predictor
from recsys.errors import RecsysError
from tests.soak.bounds import Bound
from tests.support.bundles.mutants import mutant_bundle, mutant_clicks
from tests.support.bundles.small_shops import small_shop

PATIENCE_SECONDS = 60.0
REFUSED, USED = "refused", "used"
RICH: dict[str, Any] = {"blend": "vstan", "blend_weight": 0.3, "refit": False, "retrieval": "int8"}
QUICK = ("--set", "epochs=1", "--set", "hidden=8", "--set", "negatives=8")
COMMAND = (sys.executable, "-c", "from recsys.cli.main import main; main()")


def tried(attempt: Callable[[], object]) -> str:
    """Refused with a sentence, used, or what went wrong."""
    try:
        attempt()
    except RecsysError as refused:
        said = str(refused).strip()
        ends = said.endswith((".", "?", ")", "'"))
        return REFUSED if said and ends and "Traceback" not in said else f"no sentence: {said!r}"
    except Exception as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return USED


def try_bundle(bundle: Path, folder: Path, number: int) -> tuple[str, str]:
    """What was done, and what came of it."""
    torch.set_num_threads(1)
    out = folder / f"bundle-{number}"
    done = mutant_bundle(bundle, out, number)
    found = tried(lambda: open_predictor(out))
    shutil.rmtree(out)
    return done, found


def try_clicks(folder: Path, number: int) -> tuple[str, str]:
    path, done = mutant_clicks(folder, number)
    found = tried(lambda: prepare(ClickOptions(path)))
    path.unlink()
    return done, found


def mutants(bundle: Path, folder: Path, bundles: int, clicks: int, by_command: int) -> list[Bound]:
    """Half of the bundles have an index and neighbours beside the model."""
    with TemporaryDirectory() as shop:
        rich = small_shop(Path(shop), **RICH)
        found = [
            *_all_of("bundles", partial(try_bundle, bundle, folder), bundles // 2),
            *_all_of("rich bundles", partial(try_bundle, rich, folder), bundles - bundles // 2),
        ]
    found += [
        *_all_of("click files", partial(try_clicks, folder), clicks),
        *_by_command(bundle, folder, by_command),
    ]
    left = sorted(path.name for path in folder.iterdir())
    return [*found, Bound("files left behind", ", ".join(left[:5]) or "0", "0", not left)]


def _all_of(what: str, attempt: Callable[[int], tuple[str, str]], count: int) -> list[Bound]:
    outcomes, wrong = Counter[str](), list[str]()
    numbers = list(range(count))
    while numbers:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            while numbers:
                number = numbers.pop()
                try:
                    done, found = pool.submit(attempt, number).result(PATIENCE_SECONDS)
                except BrokenProcessPool:
                    done, found = "?", "the process crashed"
                except TimeoutError:
                    done, found = "?", "it hangs"
                    for process in multiprocessing.active_children():
                        process.kill()
                outcomes[found if found in (REFUSED, USED) else "wrong"] += 1
                if found not in (REFUSED, USED):
                    wrong.append(f"{number} ({done}): {found}")
                if found.startswith(("the process", "it hangs")):
                    break
    return [
        Bound(
            f"damaged {what}: refused, still usable",
            f"{outcomes[REFUSED]:,}, {outcomes[USED]:,}",
        ),
        Bound(
            f"damaged {what}: neither",
            "\n".join([str(len(wrong)), *wrong[:20]]),
            "0",
            not wrong,
        ),
    ]


def _by_command(bundle: Path, folder: Path, count: int) -> list[Bound]:
    """By the real command line: exit status, one sentence, and no half an output."""
    wrong: list[str] = []
    for number in range(count):
        damaged, out = folder / "damaged", folder / "lists.parquet"
        mutant_bundle(bundle, damaged, number)
        path, done = mutant_clicks(folder, number)
        wrong += _complaints("train", ["--clicks", path, "--out", folder / "out", *QUICK], done)
        lists: list[str | Path] = ["--bundle", damaged, "--clicks", path, "--out", out]
        wrong += _complaints("recommend", lists, done)
        for left in (damaged, folder / "out"):
            shutil.rmtree(left, ignore_errors=True)
        for file in (path, out):
            file.unlink(missing_ok=True)
    return [
        Bound(
            f"{2 * count} by the command line: exit 0 or 2, no traceback, whole or no output",
            "\n".join([f"{len(wrong)} wrong", *wrong[:20]]),
            "0 wrong",
            not wrong,
        )
    ]


def _complaints(verb: str, arguments: Sequence[str | Path], done: str) -> list[str]:
    ended = subprocess.run(
        [*COMMAND, verb, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ,
        check=False,
    )
    out = Path(arguments[arguments.index("--out") + 1])
    whole = out.exists() == (ended.returncode == 0)
    if ended.returncode in (0, 2) and "Traceback" not in ended.stderr and whole:
        return []
    return [f"{verb} ({done}): {ended.returncode}, {ended.stderr.strip()[-300:]}"]
