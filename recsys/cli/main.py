"""The command `recsys`: parses, delegates once, and turns mistakes into one line.

The composition root: it stands above all packages and loads the commands of training and
service only when they are asked for, so that a serving machine needs neither pandas nor rich bars.
"""

import os
import sys
from typing import Annotated

import typer

from recsys import __version__
from recsys.allocation import keep_freed_memory
from recsys.cli import demo, serve, train
from recsys.errors import Interrupted, RecsysError

app = typer.Typer(
    name="recsys",
    help="Session-based recommendations: from a click log to a live top-k API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (demo, train, serve):
    app.add_typer(group.app)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit


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
