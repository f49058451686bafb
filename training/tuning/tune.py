"""`recsys tune`: read clicks, search for a better recipe, print the best one.

Trials learn from all but the last training sessions and are scored on those. The test part is put
aside before the first trial. Several processes may work on one study: those of `--workers`, and
those of the same command with `--resume`.
"""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from data.prepared.folder import ClickSource, PreparedFolder, open_source
from data.sessions import Sessions, reindex
from recsys.console import open_console
from recsys.errors import BadInput
from recsys.fileio import check_new_folder
from training.competition.durations import duration_seconds
from training.device import choose_device, device_of_process
from training.progress import TuneBars, bar, counts_table, warn
from training.stop import Stop, stop_on_signal
from training.tuning.search import (
    BEST,
    Search,
    TrialData,
    TuningOrigin,
    best_of,
    endings_line,
    importance_line,
    outcomes_table,
)
from training.tuning.space import Space
from training.tuning.study import STUDY, Outcome, Study, open_study
from training.tuning.workers import deaths, started


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """Options of `recsys tune`: the clicks, the space, the folder, and the limits."""

    clicks: ClickSource
    out: Path
    origin: TuningOrigin
    space: Space
    trials: int = 50
    seed: int = 1
    time_limit_seconds: float = float("inf")
    resume: bool = False
    device: str = "auto"
    workers: int = 1  # processes


def seconds_of(text: str) -> float:
    """Parse `2h`, `1h30m`, `90m`, `45s` or plain seconds; raise `BadInput` for any other text."""
    total = duration_seconds(text)
    if total is None:
        raise BadInput("--time-limit cannot be used", [f"got {text!r}. Write 2h, 1h30m or 45s."])
    return total


def tune(options: TuneOptions, console: Console) -> Path:
    """Run or resume a study; return its folder, with the best recipe in it."""
    deadline = time.monotonic() + options.time_limit_seconds
    for place in range(options.workers):
        _device(options, place)  # a card for each, before any starts
    with _folder(options.out):
        _check_out(options)
        data = _read(options, console)
        with (
            stop_on_signal(patient=options.workers > 1) as stop,
            _study(options, data) as study,
        ):
            with (
                started(partial(_work, options, deadline), options.workers) as others,
                TuneBars(console) as bars,
            ):
                enough = _search(options, data, bars, stop, deadline).run(study)
                warn(console, deaths(others))
            _show(options, study, console, enough=enough)
    return options.out


def _work(options: TuneOptions, deadline: float, number: int) -> None:
    """Run trials in another process, which prints nothing."""
    console = open_console(quiet=True)
    data = _read(options, console)
    with (
        stop_on_signal(patient=True) as stop,
        _study(options, data) as study,
        TuneBars(console) as bars,
    ):
        _search(options, data, bars, stop, deadline, number).run(study)


def _study(options: TuneOptions, data: TrialData) -> AbstractContextManager[Study]:
    base, space = options.origin.base, options.space
    about = {
        "clicks": data.fingerprint,
        "recipe": dataclasses.asdict(base),
        "space": {d.name: repr(d) for d in space.dimensions},
        "seed": options.seed,
    }
    return open_study(options.out, about, space, base, options.seed)


def _search(
    options: TuneOptions,
    data: TrialData,
    bars: TuneBars,
    stop: Stop,
    deadline: float,
    worker: int = 0,
) -> Search:
    device = _device(options, worker)
    return Search(data, options.origin, options.out, options.trials, device, bars, stop, deadline)


def _device(options: TuneOptions, worker: int) -> torch.device:
    """Return where a worker trains: with several of them, each has a graphics card of its own."""
    if options.workers == 1:
        return choose_device(options.device)
    return choose_device(device_of_process(options.device, worker))


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the folder of the study; remove it where a run fails before it has written a file."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # a folder with files in it stays
            out.rmdir()
        raise


def _check_out(options: TuneOptions) -> None:
    if options.resume:
        return
    if (options.out / STUDY).exists():
        raise BadInput(
            "A study is there",
            [f"{options.out / STUDY}. Go on with --resume, or name another --out."],
        )
    check_new_folder(options.out, "The study")


def _read(options: TuneOptions, console: Console) -> TrialData:
    with bar(console, "Reading clicks", "") as progress:
        prepared = open_source(options.clicks, progress)
    console.print(counts_table(prepared.counts))
    warn(console, *prepared.warnings)
    base, labelled = options.origin.base, prepared.valid is not None
    if not labelled and (base.validation == 0 or len(prepared.train) < 10):
        raise BadInput(
            "Trials cannot be compared",
            [
                f"validation is {base.validation:g} and there are {len(prepared.train):,} training "
                "sessions. Give a validation share above 0 and at least 10 sessions."
            ],
        )
    share = f"the last {base.validation:.0%} of the training sessions"
    console.print(
        f"Tuning {base.select_by} on {'the validation part' if labelled else share}. "
        f"No trial sees the test part, {len(prepared.test):,} sessions."
    )
    return without_test_items(prepared.train, prepared.valid)


def without_test_items(train: Sessions, valid: Sessions | None) -> TrialData:
    """Drop the item ids that only the test part has; the others keep the order of the log."""
    counts = train.counts() + (0 if valid is None else valid.counts())
    left = [item for item, n in zip(train.item_ids, counts.tolist(), strict=True) if n > 0]
    return TrialData(reindex(train, left), None if valid is None else reindex(valid, left))


def _show(options: TuneOptions, study: Study, console: Console, *, enough: bool) -> None:
    outcomes = study.outcomes()
    if not enough:
        console.print(
            f"The time is over after {len(outcomes)} of {options.trials} trials. Go on with the "
            "same command and --resume."
        )
    best = best_of(outcomes)
    if best is None:
        console.print("No trial came to its end, so there is no best recipe.")
        return
    console.print(outcomes_table(outcomes, options.origin.base.select_by))
    console.print(f"{endings_line(outcomes)}.")
    shares = study.importances()
    if shares:
        console.print(importance_line(shares))
    _show_best(options, best, outcomes, console)


def _show_best(
    options: TuneOptions, best: Outcome, outcomes: list[Outcome], console: Console
) -> None:
    first = next((outcome.score for outcome in outcomes if outcome.number == 0), None)
    gain = "No trial beat the base recipe, trial 0."
    if best.number > 0:
        gain = f"{best.score:.4f} where the base recipe, trial 0, has "
        gain += "no score." if first is None else f"{first:.4f}."
    given = "--prepared" if isinstance(options.clicks, PreparedFolder) else "--clicks"
    console.print(
        f"{gain} The best recipe is {options.out / BEST}. "
        "Train it, with the same options for the clicks:\n"
        f"  recsys train {given} {options.clicks.path} --recipe {options.out / BEST} --out …",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )
