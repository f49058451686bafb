"""The command `recsys`: parses, delegates once, and turns mistakes into one line.

The composition root: it stands above all packages and loads the commands of training and
service only when they are asked for, so that a serving machine needs neither pandas nor rich bars.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from recsys import __version__, cli_serving
from recsys.allocation import keep_freed_memory
from recsys.cli_options import Bundle, ClickArguments, Out, Publish, takes_clicks
from recsys.errors import Interrupted, RecsysError
from recsys.shelf import bundle_of, destination, publish
from recsys.tables import open_console

app = typer.Typer(
    name="recsys",
    help="Session-based recommendations: from a click log to a live top-k API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_serving.app)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.command(rich_help_panel="Try")
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Make the requests, print them, and exit.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the service; 0 takes a free one.")] = 8000,
    out: Annotated[
        Path | None,
        typer.Option(help="Only train, into this bundle folder; nothing to do where one is."),
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="Only train, onto this shelf; nothing to do where it has a bundle."),
    ] = None,
) -> None:
    """Train a synthetic shop, serve it on a private Redis, and show recommendations."""
    if out is not None or publish is not None:
        from training.demo import train_demo, train_demo_shelf

        if publish is None:
            train_demo(destination(out, publish), open_console(stderr=True), command=_as_typed())
        else:
            train_demo_shelf(publish, open_console(stderr=True), command=_as_typed())
        return
    from recsys.demo import run_demo

    run_demo(check=check, port=port, command=_as_typed())


@app.command(rich_help_panel="Try")
def shop(
    out: Annotated[Path, typer.Option(help="Folder for the files; must be new or empty.")],
    visits: Annotated[int, typer.Option(min=1, help="How many visits there are.")] = 15_000,
    seed: Annotated[int, typer.Option(min=0, help="Decides who clicks what.")] = 1,
) -> None:
    """Write the demo's synthetic shop as files: clicks.csv, and items.csv with 600 products."""
    from training.demo import write_files

    write_files(out.resolve(), visits, seed, open_console(stderr=True))


@app.command(rich_help_panel="Learn")
@takes_clicks
def train(
    clicks: ClickArguments,
    out: Out = None,
    shelf: Publish = None,
    recipe: Annotated[str, typer.Option(help="Built-in recipe, or a TOML file.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting: --set epochs=3.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items file: attributes for filters and display.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, or cuda.")] = "auto",
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Work a crash may cost; large models write slowly.")
    ] = 60.0,
) -> None:
    """Learn from clicks, test against baselines, write a bundle."""
    from training.commands import TrainOptions
    from training.commands import train as run
    from training.options import click_options
    from training.recipe import load_recipe

    chosen = load_recipe(recipe, settings or [])
    options = TrainOptions(
        clicks=click_options(clicks),
        out=destination(out, shelf, resume=resume),
        recipe=chosen,
        items=items,
        resume=resume,
        device=device,
        command=_as_typed(),
        checkpoint_seconds=checkpoint_seconds,
    )
    _name_current(shelf, run(options, open_console(stderr=True)))


@app.command(rich_help_panel="Learn")
@takes_clicks
def tune(
    clicks: ClickArguments,
    out: Annotated[Path, typer.Option(help="Folder for the study; must be new or empty.")],
    recipe: Annotated[
        str, typer.Option(help="Built-in recipe, or a TOML file, to start from.")
    ] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting: --set epochs=3.")
    ] = None,
    space: Annotated[
        str, typer.Option(help="What to try: quick, published, or a TOML file.")
    ] = "quick",
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those before --resume included.")
    ] = 50,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after 2h, 1h30m, 45s; --resume goes on.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which settings are tried.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this study.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, or cuda.")] = "auto",
) -> None:
    """Search for a better recipe; the test part is never seen.

    Trial 0 is the recipe itself. Each trial trains on all but the last training sessions and is
    scored on those by the recipe's select_by. Unpromising trials are stopped early. The folder
    holds study.db (Optuna, SQLite), trials.csv and best.toml, a recipe for recsys train.
    """
    from training.options import click_options
    from training.recipe import load_recipe
    from training.space_file import load_space
    from training.tune import TuneOptions, seconds_of
    from training.tune import tune as run
    from training.tune_results import Found

    base = load_recipe(recipe, settings or [])
    command = shlex.join(["recsys", *sys.argv[1:]])
    options = TuneOptions(
        clicks=click_options(clicks),
        out=out.resolve(),
        found=Found(base, " ".join([recipe, *(settings or [])]), command),
        space=load_space(space, base),
        trials=trials,
        seed=seed,
        time_limit_seconds=seconds_of(time_limit) if time_limit else float("inf"),
        resume=resume,
        device=device,
    )
    run(options, open_console(stderr=True))


@app.command(rich_help_panel="Learn")
@takes_clicks
def finetune(
    clicks: ClickArguments,
    bundle: Bundle,
    out: Out = None,
    shelf: Publish = None,
    drop_vanished: Annotated[
        bool, typer.Option("--drop-vanished", help="Drop old items that the new clicks lack.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting: --set epochs=2.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items file; what it lacks stays as in the old bundle.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, or cuda.")] = "auto",
) -> None:
    """Continue a bundle on new clicks and new items; old items keep their order."""
    from training.finetune import FinetuneOptions
    from training.finetune import finetune as run
    from training.options import click_options

    typed = click_options(clicks)
    options = FinetuneOptions(
        bundle=bundle_of(bundle),
        clicks=typed,
        out=destination(out, shelf, resume=resume),
        settings=settings or [],
        items=items,
        drop_vanished=drop_vanished,
        resume=resume,
        device=device,
    )
    _name_current(shelf, run(options, open_console(stderr=True)))


@app.command(rich_help_panel="Learn")
@takes_clicks
def evaluate(
    clicks: ClickArguments,
    bundle: Bundle,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, nothing else.")
    ] = False,
    all_sessions: Annotated[
        bool, typer.Option("--all-sessions", help="Test on every session; no split, no baselines.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write what was measured as an HTML page, too.")
    ] = None,
) -> None:
    """Recall, MRR, NDCG, coverage and latency of a bundle, beside the baselines."""
    from training.evaluate_bundle import evaluate_bundle
    from training.options import click_options

    console = open_console(quiet=json)
    evaluate_bundle(
        bundle_of(bundle),
        click_options(clicks),
        console,
        every_session=all_sessions,
        print_json=json,
        report=report,
        command=_as_typed(),
    )


def _name_current(shelf: Path | None, bundle: Path) -> None:
    if shelf is not None:
        publish(shelf, bundle.name)


def _as_typed() -> str:
    """The command line of this process, quoted for a shell."""
    program, *arguments = sys.argv
    return shlex.join([Path(program).name, *arguments])


def main() -> None:
    """Run a command; the user's mistakes are one line and exit code 2, ours a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it
    keep_freed_memory()
    try:
        app(prog_name="recsys")
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except OSError as world:
        print(f"error: {world}", file=sys.stderr)
        sys.exit(2)
    except RecsysError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
