"""What takes longer than a test may: reloads, kills, overload and mutants, with figures.

    python tests/soak.py             # all of it, about … minutes
    python tests/soak.py overload    # one part; each has --help

Every part trains a small shop where no bundle is given, starts real servers and a real Redis, and
ends with a table: measured, promised, holds. Ends with 1 where anything that is promised does not.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import typer
from bounds import Bound, show
from rich.console import Console
from small_shops import small_shop
from soak_overload import overload as overloaded

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
console = Console()
BundleOption = Annotated[Path | None, typer.Option(help="Bundle folder, instead of a new one.")]


def run(title: str, bundle: Path | None, part: Callable[[Path, Path], list[Bound]]) -> None:
    with tempfile.TemporaryDirectory(prefix="recsys-soak-") as name:
        folder = Path(name)
        if bundle is None:
            with console.status("Training a small shop"):
                bundle = small_shop(folder)
        with console.status(title):
            bounds = part(bundle, folder)
    if not show(title, bounds, console):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return


@app.command()
def overload(
    bundle: BundleOption = None,
    seconds: float = 60.0,
    slow_ms: Annotated[float, typer.Option(help="What each list takes.")] = 2.8,
) -> None:
    """Three times the capacity for a while: what is accepted is quick, the rest is refused."""
    run("Overload", bundle, lambda b, f: overloaded(b, f, seconds, slow_ms))


if __name__ == "__main__":
    app()
