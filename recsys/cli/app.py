"""The typer application: every command of `recsys`.

It stands above all packages. The commands load training and service when they run, so that a
serving machine needs no pandas and `--help` needs no torch.
"""

from typing import Annotated

import typer

from recsys import __version__
from recsys.cli import catalogue, collect, demo, prepare, retrain, serve, train

app = typer.Typer(
    name="recsys",
    help="Session-based recommendations: from a click log to a live top-k API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (demo, prepare, train, retrain, serve, collect, catalogue):
    app.add_typer(group.app)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit
