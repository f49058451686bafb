"""What a search leaves: `best.toml`, a recipe to train, and `trials.csv`, one row a trial."""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.fileio import replace_file
from training.recipe import Recipe, as_toml
from training.tuning.study import Outcome

BEST = "best.toml"
TRIALS = "trials.csv"
COLUMNS = ("trial", "ending", "score", "epochs", "seconds", "reason")


@dataclass(frozen=True, slots=True)
class TuningOrigin:
    """Where the trials of a study come from; stands at the head of its best recipe."""

    base: Recipe
    base_name: str = "default"
    command: str = "recsys tune"


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The trial of the highest score, the first of equals; only one that came to its end counts."""
    finished = [o for o in outcomes if o.ending == "finished" and o.score is not None]
    return max(finished, key=lambda o: o.score or 0.0, default=None)


def write_results(folder: Path, outcomes: Sequence[Outcome], found: TuningOrigin) -> None:
    """Both files anew, each replaced atomically; without an outcome nothing is written."""
    if not outcomes:
        return
    replace_file(folder / TRIALS, lambda path: _write_trials(path, outcomes))
    best = best_of(outcomes)
    if best is not None:
        text = _best_recipe(best, outcomes, found)
        replace_file(folder / BEST, lambda path: path.write_text(text, encoding="utf-8"))


def _best_recipe(best: Outcome, outcomes: Sequence[Outcome], found: TuningOrigin) -> str:
    settings: dict[str, Any] = dict(best.settings)
    recipe = dataclasses.replace(found.base, **settings)
    today = datetime.now(UTC).date().isoformat()
    head = [
        f"Trial {best.number}, the best of {len(outcomes)} on {today}: "
        f"{recipe.select_by} {best.score:.4f} on validation sessions; the test part was not seen.",
        f"Base: {found.base_name}, with trial 0 as its own score.",
        f"  {found.command}",
    ]
    return "".join(f"# {_printable(line)}\n" for line in head) + as_toml(recipe)


def _printable(line: str) -> str:
    """TOML comments hold no control characters; a typed command may."""
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _write_trials(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.settings))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, *names])
        for o in outcomes:
            score = "" if o.score is None else f"{o.score:.6f}"
            about = (o.number, o.ending, score, o.epochs, f"{o.seconds:.1f}", o.reason)
            rows.writerow([*about, *(o.settings.get(name, "") for name in names)])
