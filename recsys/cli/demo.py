"""Commands on the synthetic shop: `recsys demo`, `recsys demo-loop` and `recsys shop`."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.bundle.registry import output_folder
from recsys.cli.click_options import as_typed
from recsys.console import open_console

app = typer.Typer()


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
        typer.Option(
            help="Only train, into this model registry; nothing to do where it has a bundle."
        ),
    ] = None,
) -> None:
    """Train a synthetic shop, serve it on a private Redis, and show recommendations."""
    if out is not None or publish is not None:
        from training.demo import train_demo, train_demo_registry

        if publish is None:
            train_demo(output_folder(out, publish), open_console(stderr=True), command=as_typed())
        else:
            train_demo_registry(publish, open_console(stderr=True), command=as_typed())
        return
    from recsys.cli.run_demo import run_demo

    run_demo(check=check, port=port, command=as_typed())


@app.command(rich_help_panel="Try")
def demo_loop(
    check: Annotated[
        bool, typer.Option("--check", help="Two small days, to check that all parts work.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=21, help="Simulated days.")] = 10,
    visits: Annotated[int, typer.Option(min=1, help="Visits of a day.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the visits.")] = 1,
    page: Annotated[
        Path | None, typer.Option(help="Where the page is written.", show_default="none")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="SVG of the click-through by day.", show_default="none")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for events and model registry, which stay.",
            show_default="a temporary folder",
        ),
    ] = None,
) -> None:
    """Simulate a shop whose visitors follow lists: serve, collect, retrain, publish, compare.

    Each night a model is trained on the clicks that were collected, and published if it is not
    worse. From then on, half of the visitors get it, and the others get the first model.
    """
    from contextlib import nullcontext
    from tempfile import TemporaryDirectory

    from recsys.cli.demo_loop.loop import LoopOptions, small_loop
    from recsys.cli.demo_loop.show import show_loop
    from recsys.fileio import check_new_folder

    if out is not None:
        check_new_folder(out, "The simulated shop")
    temporary = TemporaryDirectory(prefix="recsys-demo-loop-") if out is None else nullcontext(out)
    with temporary as folder:
        options = LoopOptions(folder=Path(folder), days=days, visits=visits, seed=seed)
        show_loop(small_loop(Path(folder)) if check else options, open_console(), page, picture)


@app.command(rich_help_panel="Try")
def shop(
    out: Annotated[Path, typer.Option(help="Folder for the files; must be new or empty.")],
    visits: Annotated[int, typer.Option(min=1, help="Number of visits.")] = 15_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random clicks.")] = 1,
) -> None:
    """Write the demo's synthetic shop as files: clicks.csv, and items.csv with 1,200 items."""
    from data.shop.files import write_demo_shop
    from recsys.fileio import check_new_folder, new_folder

    out = out.resolve()
    check_new_folder(out, "The shop")
    with new_folder(out) as folder:
        write_demo_shop(folder, visits=visits, seed=seed)
    console = open_console(stderr=True)
    console.print(f"{visits:,} visits: {out / 'clicks.csv'} and {out / 'items.csv'}.", markup=False)
