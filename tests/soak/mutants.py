"""Damaged bundles and click files: each is refused with a sentence, or is still usable.

A separate process opens them, so that this script detects crashes and hangs. Some also go through
the real command line. Damage can be harmless (a note of the manifest, a letter of an item id); then
the program may use the file. It may never end with a traceback or leave a partial output.
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


def outcome_of(attempt: Callable[[], object]) -> str:
    """Return REFUSED, USED, or a description of the mistake."""
    try:
        attempt()
    except RecsysError as refused:
        message = str(refused).strip()
        is_sentence = message.endswith((".", "?", ")", "'")) and "Traceback" not in message
        return REFUSED if is_sentence else f"no sentence: {message!r}"
    except Exception as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return USED


def try_bundle(bundle: Path, folder: Path, number: int) -> tuple[str, str]:
    """Damage a copy of the bundle and open it; return the damage and the outcome."""
    torch.set_num_threads(1)
    out = folder / f"bundle-{number}"
    damage = mutant_bundle(bundle, out, number)
    outcome = outcome_of(lambda: open_predictor(out))
    shutil.rmtree(out)
    return damage, outcome


def try_clicks(folder: Path, number: int) -> tuple[str, str]:
    path, damage = mutant_clicks(folder, number)
    outcome = outcome_of(lambda: prepare(ClickOptions(path)))
    path.unlink()
    return damage, outcome


def mutants(bundle: Path, folder: Path, bundles: int, clicks: int, by_command: int) -> list[Bound]:
    """Damage many bundles, of which half have an index and neighbours, and many click files."""
    with TemporaryDirectory() as shop:
        rich = small_shop(Path(shop), **RICH)
        bounds = [
            *_all_of("bundles", partial(try_bundle, bundle, folder), bundles // 2),
            *_all_of("rich bundles", partial(try_bundle, rich, folder), bundles - bundles // 2),
        ]
    bounds += [
        *_all_of("click files", partial(try_clicks, folder), clicks),
        *_by_command(bundle, folder, by_command),
    ]
    left = sorted(path.name for path in folder.iterdir())
    return [*bounds, Bound("files left behind", ", ".join(left[:5]) or "0", "0", not left)]


def _all_of(name: str, attempt: Callable[[int], tuple[str, str]], count: int) -> list[Bound]:
    outcomes, wrong = Counter[str](), list[str]()
    numbers = list(range(count))
    while numbers:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            while numbers:
                number = numbers.pop()
                try:
                    damage, outcome = pool.submit(attempt, number).result(PATIENCE_SECONDS)
                except BrokenProcessPool:
                    damage, outcome = "?", "the process crashed"
                except TimeoutError:
                    damage, outcome = "?", "it hangs"
                    for process in multiprocessing.active_children():
                        process.kill()
                outcomes[outcome if outcome in (REFUSED, USED) else "wrong"] += 1
                if outcome not in (REFUSED, USED):
                    wrong.append(f"{number} ({damage}): {outcome}")
                if outcome.startswith(("the process", "it hangs")):
                    break
    return [
        Bound(
            f"damaged {name}: refused, still usable", f"{outcomes[REFUSED]:,}, {outcomes[USED]:,}"
        ),
        Bound(
            f"damaged {name}: neither", "\n".join([str(len(wrong)), *wrong[:20]]), "0", not wrong
        ),
    ]


def _by_command(bundle: Path, folder: Path, count: int) -> list[Bound]:
    """Use damaged files on the command line and check exit status, message and output."""
    wrong: list[str] = []
    for number in range(count):
        damaged, out = folder / "damaged", folder / "lists.parquet"
        mutant_bundle(bundle, damaged, number)
        path, damage = mutant_clicks(folder, number)
        wrong += _complaints("train", ["--clicks", path, "--out", folder / "out", *QUICK], damage)
        lists: list[str | Path] = ["--bundle", damaged, "--clicks", path, "--out", out]
        wrong += _complaints("recommend", lists, damage)
        for left in (damaged, folder / "out"):
            shutil.rmtree(left, ignore_errors=True)
        for file in (path, out):
            file.unlink(missing_ok=True)
    return [
        Bound(
            f"{2 * count} by the command line: exit 0 or 2, no traceback, complete output or none",
            "\n".join([f"{len(wrong)} wrong", *wrong[:20]]),
            "0 wrong",
            not wrong,
        )
    ]


def _complaints(verb: str, arguments: Sequence[str | Path], damage: str) -> list[str]:
    ended = subprocess.run(
        [*COMMAND, verb, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ,
        check=False,
    )
    out = Path(arguments[arguments.index("--out") + 1])
    consistent = out.exists() == (ended.returncode == 0)
    if ended.returncode in (0, 2) and "Traceback" not in ended.stderr and consistent:
        return []
    return [f"{verb} ({damage}): {ended.returncode}, {ended.stderr.strip()[-300:]}"]
