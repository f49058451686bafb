"""Results of a search: the files `best.toml` and `trials.csv`, and what the terminal shows."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from recsys.console import add_row, neat_table
from recsys.fileio import replace_file
from training.recipe import Recipe, as_toml
from training.tuning.study import Outcome

BEST = "best.toml"
TRIALS = "trials.csv"
COLUMNS = ("trial", "ending", "score", "epochs", "seconds", "reason")
SHOWN_TRIALS = 10


@dataclass(frozen=True, slots=True)
class TuningOrigin:
    """Base recipe and command of a study, which head its best recipe."""

    base: Recipe
    base_name: str = "default"
    command: str = "recsys tune"


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the finished trial of the highest score, the first of equals."""
    finished = [o for o in outcomes if o.ending == "finished" and o.score is not None]
    return max(finished, key=lambda o: o.score or 0.0, default=None)


def write_results(folder: Path, outcomes: Sequence[Outcome], origin: TuningOrigin) -> None:
    """Replace both files, each atomically; write nothing without an outcome."""
    if not outcomes:
        return
    replace_file(folder / TRIALS, lambda path: _write_trials(path, outcomes))
    best = best_of(outcomes)
    if best is not None:
        text = _best_recipe(best, outcomes, origin)
        replace_file(folder / BEST, lambda path: path.write_text(text, encoding="utf-8"))


def outcomes_table(outcomes: Sequence[Outcome], metric: str) -> Table:
    """Build a table of the finished trials, best first."""
    finished = [o for o in outcomes if o.ending == "finished"]
    ranked = sorted(finished, key=lambda o: -(o.score or 0.0))[:SHOWN_TRIALS]
    table = neat_table(f"Best of {len(outcomes)} trials", right=["#", metric, "epochs", "s"])
    table.add_column("settings", overflow="fold")
    for row, o in enumerate(ranked):
        cells = (o.number, f"{o.score:.4f}", o.epochs, f"{o.seconds:.0f}", _settings(o))
        add_row(table, *cells, style="bold" if row == 0 else "")
    return table


def trial_line(outcome: Outcome, best: Outcome | None, metric: str) -> str:
    """Describe how a trial ended: score, epochs, seconds, the best so far, settings."""
    score = "" if outcome.score is None else f" {metric} {outcome.score:.4f}"
    cost = f"{outcome.epochs} epochs, {outcome.seconds:.0f} s"
    comparison = ""
    if best is not None:
        is_best = best.number == outcome.number
        comparison = (
            "the best so far" if is_best else f"best {best.score:.4f} of trial {best.number}"
        )
    parts = [f"{outcome.ending}{score}", cost, outcome.reason, comparison, _settings(outcome)]
    return f"trial {outcome.number}: {'; '.join(part for part in parts if part)}"


def endings_line(outcomes: Sequence[Outcome]) -> str:
    """Count the trials by ending: `12 finished, 7 pruned, 1 diverged`."""
    endings = [o.ending for o in outcomes]
    return ", ".join(f"{endings.count(ending)} {ending}" for ending in dict.fromkeys(endings))


def importance_line(shares: Mapping[str, float]) -> str:
    """List the share of each setting in the score."""
    parts = (f"{name} {share:.0%}" for name, share in shares.items())
    return f"What mattered: {', '.join(parts)}."


def _settings(outcome: Outcome) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in outcome.settings.items()
    )


def _best_recipe(best: Outcome, outcomes: Sequence[Outcome], origin: TuningOrigin) -> str:
    settings: dict[str, Any] = dict(best.settings)
    recipe = dataclasses.replace(origin.base, **settings)
    today = datetime.now(UTC).date().isoformat()
    head = [
        f"Trial {best.number}, the best of {len(outcomes)} on {today}: "
        f"{recipe.select_by} {best.score:.4f} on validation sessions; the test part was not seen.",
        f"Base: {origin.base_name}, with trial 0 as its own score.",
        f"  {origin.command}",
    ]
    return "".join(f"# {_printable(line)}\n" for line in head) + as_toml(recipe)


def _printable(line: str) -> str:
    """Replace control characters, which a TOML comment cannot hold, by spaces."""
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
