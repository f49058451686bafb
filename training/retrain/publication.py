"""Publication: carry out a decision in the registry, from wherever an interrupted run stopped."""

from pathlib import Path

from rich.console import Console

from recsys.bundle.pruning import prune
from recsys.bundle.registry import publish
from recsys.errors import BadInput
from training.retrain.current import check_experiment, published_in
from training.retrain.decision import Decision, add_decision, read_decisions
from training.retrain.options import RetrainOptions
from training.retrain.page import write_page
from training.retrain.work import Work

PAGE = "decisions.html"  # in the registry


def carry_out(
    options: RetrainOptions, work: Work, decision: Decision, console: Console
) -> Decision:
    """Publish or drop the candidate; each step may have been done by a run that was interrupted."""
    registry, published = options.registry, published_in(options.registry)
    main = None if published is None else published.main
    if not may_be_published(registry, decision):
        work.clear()
        raise BadInput(
            "The candidate was not published",
            [
                f"the current version of {registry} has changed during the run, from "
                f"{decision.compared_with} to {main}, and the candidate was not compared with it. "
                "Retrain again."
            ],
        )
    if decision.published:
        check_experiment(options)
        if work.candidate.exists():
            work.candidate.rename(registry / decision.bundle)
        experiment = None if published is None else published.experiment
        publish(registry, decision.bundle, None if experiment is None else experiment.shares)
    add_decision(registry, decision)
    write_page(options.report or registry / PAGE, read_decisions(registry))
    work.clear()
    word = "Published" if decision.published else "Kept"
    name = decision.bundle if decision.published else decision.compared_with or "nothing"
    console.print(f"{word} {name}: {decision.reason}", markup=False)
    if options.keep is not None:
        earlier = [one for one in read_decisions(registry) if one.published]
        needed = [one.compared_with for one in earlier[-1:] if one.compared_with]
        for removed in prune(registry, options.keep, needed, work.removed):
            console.print(f"Removed the old bundle {removed}.", markup=False)
    return decision


def may_be_published(registry: Path, decision: Decision) -> bool:
    """Return whether the main version is still the one of the comparison, or the candidate."""
    published = published_in(registry)
    main = None if published is None else published.main
    return main in (decision.compared_with, decision.bundle)
