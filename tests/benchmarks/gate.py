"""How often the gate of `recsys retrain` publishes a model that is worse, as good, or better.

    python tests/benchmarks/gate.py --clicks F --split-column split --models runs/gate

Models of several nights are trained on windows of the training part that end at different times,
each with a seed of its own, and rank the whole test part, which is many times larger than a trial.
A trial takes two nights, and exchanges sessions of one of them for those of a model of one epoch,
in random order, until the relative difference of Recall@20 over the whole test part is the wanted
one. So the true difference is known, and the two disagree as much as real models do. Then the gate
sees a random sample of sessions of so many cases.
"""

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import Prepared, prepare
from data.sessions import Sessions, reindex
from recsys.console import add_row, neat_table
from tests.support.training.builders import Quiet
from training.evaluation.compare import case_values
from training.evaluation.evaluate import RankedCases, evaluate
from training.model.weights import eager_predictor
from training.recipe import Recipe, load_recipe
from training.retrain.gate import DECIDES, Verdict, judge
from training.trainer import Trainer

MARGIN = 0.01
WEAK_EPOCHS = 1
SEED = 7


def night(train: Sessions, clicks: int, number: int) -> Sessions:
    """Return the newest sessions of so many clicks, without the newest `number` twentieths."""
    end = len(train) - int(np.searchsorted(np.cumsum(train.lengths[::-1]), number * clicks // 20))
    first = end - int(np.searchsorted(np.cumsum(train.lengths[:end][::-1]), clicks))
    return train.part(max(first, 0), end)


def ranks_of(recipe: Recipe, train: Sessions, test: Sessions) -> RankedCases:
    """Train a model and rank every case of the test part, as `recsys evaluate` does."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), torch.device("cpu"), Quiet())
        trained = trainer.train(train, None)
    predictor = eager_predictor(trained.weights, trained.catalogue, recipe)
    tested = reindex(test, trained.catalogue.item_ids)
    return evaluate(predictor, tested, len(trained.catalogue)).ranked


def read_or_train(
    folder: Path, name: str, recipe: Recipe, train: Sessions, test: Sessions
) -> RankedCases:
    """Return the ranks of a model, from its file where there is one."""
    path = folder / f"{name}.npz"
    if not path.exists():
        ranked = ranks_of(recipe, train, test)
        columns = {field: getattr(ranked, field) for field in ("session", "before", "target")}
        np.savez(path, rank=ranked.rank, **columns)
    with np.load(path) as stored:
        return RankedCases(*(stored[field] for field in ("session", "before", "target", "rank")))


class Pool:
    """Ranks of all models on the whole test part."""

    def __init__(self, nights: list[RankedCases], weak: list[RankedCases]) -> None:
        """Keep the hits within 20 of each session, for the mixtures."""
        self.nights, self.weak = nights, weak
        self.session = nights[0].session
        self.sessions = int(self.session.max()) + 1

    def hits(self, ranked: RankedCases) -> NDArray[np.float64]:
        """Return the targets of each session that a model finds, (sessions,)."""
        found = case_values(ranked.rank, DECIDES)
        return np.bincount(self.session, found, minlength=self.sessions).astype(np.float64)

    def mixed(
        self,
        base: RankedCases,
        weak: RankedCases,
        wanted: float,
        random: np.random.Generator,
    ) -> RankedCases:
        """Exchange sessions of `base` for those of `weak` until it finds `wanted` targets."""
        order = random.permutation(self.sessions)
        found = self.hits(base).sum() + np.cumsum((self.hits(weak) - self.hits(base))[order])
        reached = np.flatnonzero(found <= wanted)
        exchanged = np.zeros(self.sessions, dtype=bool)
        exchanged[order[: reached[0] + 1 if len(reached) else None]] = True
        rank = np.where(exchanged[self.session], weak.rank, base.rank)
        return dataclasses.replace(base, rank=rank)

    def pair(self, wanted: float, random: np.random.Generator) -> tuple[RankedCases, RankedCases]:
        """Return a candidate and a current model with this relative difference over all cases."""
        one, other = random.choice(len(self.nights), size=2, replace=False)
        candidate, current = self.nights[one], self.nights[other]
        weak = self.weak[int(random.integers(len(self.weak)))]
        found = self.hits(candidate).sum(), self.hits(current).sum()
        if found[0] / found[1] - 1 > wanted:
            return self.mixed(candidate, weak, (1 + wanted) * found[1], random), current
        return candidate, self.mixed(current, weak, found[0] / (1 + wanted), random)

    def sample(self, cases: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Return the cases of random sessions, about so many."""
        order = random.permutation(self.sessions)
        lengths = np.bincount(self.session, minlength=self.sessions)[order]
        drawn = order[: int(np.searchsorted(np.cumsum(lengths), cases)) + 1]
        return np.flatnonzero(np.isin(self.session, drawn))


def taken(ranked: RankedCases, cases: NDArray[np.int64]) -> RankedCases:
    """Return these cases, with sessions numbered anew."""
    _, session = np.unique(ranked.session[cases], return_inverse=True)
    return RankedCases(
        session.astype(np.int32), ranked.before[cases], ranked.target[cases], ranked.rank[cases]
    )


def trial(
    pool: Pool, wanted: float, cases: int, random: np.random.Generator
) -> tuple[Verdict, float]:
    """Return the verdict of one trial, and the difference over all cases."""
    candidate, current = pool.pair(wanted, random)
    drawn = pool.sample(cases, random)
    true = pool.hits(candidate).sum() / pool.hits(current).sum() - 1
    return judge(taken(candidate, drawn), taken(current, drawn), MARGIN), float(true)


def normal_power(verdicts: list[Verdict], difference: float) -> float:
    """Return the rate that a normal approximation expects from the width of the intervals."""
    error = float(np.mean([(v.recall.high - v.recall.low) / (2 * 1.645) for v in verdicts]))
    z = (difference + MARGIN) / max(error, 1e-9) - 1.645
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def models(given: argparse.Namespace, console: Console) -> Pool:
    """Train the models, or read their ranks."""
    given.models.mkdir(parents=True, exist_ok=True)
    prepared: Prepared = prepare(ClickOptions(given.clicks, split_column=given.split_column))
    nights, weak = [], []
    for number in range(given.nights):
        train = night(prepared.train, given.window, number)
        settings = [*given.set, f"seed={number + 1}", "validation=0"]
        recipe = load_recipe("default", settings)
        nights.append(read_or_train(given.models, f"night-{number}", recipe, train, prepared.test))
        if number < 2:
            early = dataclasses.replace(recipe, epochs=WEAK_EPOCHS)
            weak.append(read_or_train(given.models, f"weak-{number}", early, train, prepared.test))
    table = neat_table("Models", left=["model"], right=["Recall@20", "MRR@20", "disagrees"])
    named = [(f"night {n}", one) for n, one in enumerate(nights)]
    for name, ranked in [*named, *((f"weak {n}", one) for n, one in enumerate(weak))]:
        verdict = judge(ranked, nights[0], MARGIN)
        figures = verdict.recall.candidate, verdict.mrr.candidate, verdict.disagreement
        add_row(table, name, *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    return Pool(nights, weak)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how often the gate publishes.")
    parser.add_argument("--clicks", type=Path, required=True)
    parser.add_argument("--split-column")
    parser.add_argument("--models", type=Path, required=True, help="folder for the ranks")
    parser.add_argument("--nights", type=int, default=6)
    parser.add_argument("--window", type=int, default=100_000, help="training clicks of a night")
    parser.add_argument("--set", action="append", default=[], help="setting of every recipe")
    parser.add_argument("--cases", type=int, nargs="+", default=[5000])
    parser.add_argument("--difference", type=float, nargs="+", default=[-0.02, 0.0, 0.02])
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 50, 20])
    return parser.parse_args()


def main() -> None:
    given, console = arguments(), Console(width=140)
    torch.set_num_threads(1)
    pool, random = models(given, console), np.random.default_rng(SEED)
    table = neat_table(
        f"Gate with a margin of {MARGIN:.0%}, test part of {len(pool.session):,} cases",
        left=["true difference"],
        right=["cases", "trials", "published", "rate", "expected", "disagreement", "needed"],
    )
    for cases in given.cases:
        for wanted, trials in zip(given.difference, given.trials, strict=True):
            done = [trial(pool, wanted, cases, random) for _ in range(trials)]
            verdicts, true = [verdict for verdict, _ in done], np.mean([one for _, one in done])
            published = sum(verdict.passes for verdict in verdicts)
            needed = [verdict.cases_needed or 0 for verdict in verdicts]
            add_row(
                table,
                f"{true:+.2%}",
                f"{cases:,}",
                f"{trials:,}",
                f"{published:,}",
                f"{published / trials:.1%}",
                f"{normal_power(verdicts, wanted):.1%}",
                f"{np.mean([verdict.disagreement for verdict in verdicts]):.1%}",
                f"{np.mean(needed):,.0f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
