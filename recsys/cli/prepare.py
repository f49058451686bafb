"""The command `recsys prepare`: clicks become a folder of arrays, which training maps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from data.click_options import ClickOptions
from data.sources.databases import Query
from recsys.cli.click_options import reading_options_given, takes_clicks
from recsys.console import open_console
from recsys.errors import BadInput

if TYPE_CHECKING:
    from data.distributed.runner import ClusterOptions
    from data.distributed.this_machine import Room
    from data.prepared.folder import PreparedFolder
    from data.prepared.run import Writer
    from data.sources.object_stores import Url

app = typer.Typer()


@app.command(rich_help_panel="Learn")
@takes_clicks
def prepare(
    context: typer.Context,
    clicks: ClickOptions,
    out: Annotated[Path, typer.Option(help="Folder for the prepared clicks; new or empty.")],
    workers: Annotated[
        int | None,
        typer.Option(help="For a log beyond the memory: start so many worker processes."),
    ] = None,
    worker_memory: Annotated[
        str | None, typer.Option(help="Memory of each of them.", show_default="2GB")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Use a running Dask cluster: tcp://scheduler:8786.")
    ] = None,
    without_workers: Annotated[
        bool,
        typer.Option("--in-memory", help="Read the clicks in memory, whatever their size."),
    ] = False,
    append: Annotated[
        Path | None,
        typer.Option(
            help="A prepared folder: all of its sessions are trained on, and --clicks, which come "
            "later, are the test part."
        ),
    ] = None,
) -> None:
    """Read, filter and split clicks once, for recsys train --prepared.

    The folder holds the training and test sessions as arrays. A second run on the same files with
    the same options does nothing. Clicks that may not fit into half of the memory are prepared by a
    worker for each processor. Workers decide nothing about the result. If a run with workers is
    stopped, the same command goes on after its last finished stage.
    """
    from data.distributed.this_machine import Room
    from data.prepared.run import in_memory, make_folder
    from training.progress import bar, counts_table, warn

    console, out = open_console(stderr=True), out.resolve()
    if cluster is not None and isinstance(context.params["path"], Query):
        raise BadInput(
            "The options cannot be used",
            [
                "the rows of a query are a file of this machine, which workers of --cluster do not "
                "see. Give --workers, or files that all machines see."
            ],
        )
    by_workers = any(option is not None for option in (workers, worker_memory, cluster))
    if without_workers and by_workers:
        raise BadInput(
            "The options cannot be used",
            ["--in-memory uses no workers. Leave it or --workers, --worker-memory, --cluster out."],
        )
    with stopping_by_signals():
        if append is not None:
            _refuse_with_append(context, workers, worker_memory, cluster)
            folder, written = _append(append.resolve(), clicks.path, out, console)
        elif not (by_workers or without_workers) and not (room := Room.of(clicks)).suffices:
            writer = _on_this_machine(clicks, out, room, console)
            folder, written = make_folder(out, clicks, writer)
        elif not by_workers:
            with bar(console, "Reading clicks", "") as progress:
                folder, written = make_folder(out, clicks, in_memory(clicks, progress))
        else:
            writer = _on_cluster(clicks, out, workers, worker_memory, cluster, console)
            folder, written = make_folder(out, clicks, writer)
    console.print(counts_table(folder.manifest.counts))
    warn(console, *folder.warnings)
    if written:
        said = f"Prepared clicks are in\n  {out}"
    else:
        said = f"Nothing has changed since the clicks were prepared in\n  {out}"
    console.print(
        f"\n{said}\nTrain on them:\n  recsys train --prepared {out} --out …",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )


def _refuse_with_append(context: typer.Context, *of_workers: object) -> None:
    """Raise `BadInput` for options that --append takes from the prepared folder, or cannot use."""
    given = reading_options_given(context)
    problems = [
        f"{', '.join(given)} say how --clicks is read, and --append reads it by the options of the "
        "prepared folder. Leave these options out."
    ] * bool(given)
    problems += [
        "--append reads new clicks in this process. Leave --workers, --worker-memory and --cluster "
        "out, or prepare all clicks together."
    ] * any(option is not None for option in of_workers)
    if problems:
        raise BadInput("The options cannot be used", problems)


def _append(
    base: Path, clicks: "Path | Url", out: Path, console: Console
) -> "tuple[PreparedFolder, bool]":
    from data.distributed.runner import ClusterOptions, check_installed
    from data.prepared.folder import PreparedFolder
    from data.prepared.run import make_folder
    from training.progress import bar

    check_installed()
    from data.distributed.append import Appending

    rows = ClusterOptions().rows_per_partition
    appending = Appending(
        PreparedFolder.at(base), clicks, rows, lambda title: bar(console, title, "")
    )
    return make_folder(out, appending.options, appending.write, appending.origin_of)


@contextmanager
def stopping_by_signals() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, also where the shell has turned Ctrl-C off."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_cluster(
    clicks: ClickOptions,
    out: Path,
    workers: int | None,
    worker_memory: str | None,
    address: str | None,
    console: Console,
) -> "Writer":
    from data.distributed.runner import ClusterOptions, check_installed

    check_installed()
    if address is not None and isinstance(clicks.path, Path):  # workers have folders of their own
        clicks = replace(clicks, path=clicks.path.resolve())
    return writer_on(ClusterOptions(workers, worker_memory, address), clicks, out, console)


def _on_this_machine(clicks: ClickOptions, out: Path, room: "Room", console: Console) -> "Writer":
    """Return a writer for clicks that may not fit into the memory, and say so."""
    from data.distributed.runner import missing_packages

    if missing := missing_packages():
        raise BadInput(
            "The clicks must be prepared by workers",
            [
                f"they take {room.figures}, and {missing} are not installed. Install "
                "session-recsys[prepare], or read them in memory with --in-memory."
            ],
        )
    options = room.workers()
    console.print(
        f"The clicks take {room.figures}: {options.workers} workers of "
        f"{options.worker_bytes / 1e9:.1f} GB prepare them.",
        soft_wrap=True,
    )
    return writer_on(options, clicks, out, console)


def writer_on(
    options: "ClusterOptions", clicks: ClickOptions, out: Path, console: Console
) -> "Writer":
    """Return the writer that prepares on a cluster, with bars and sentences on this console."""
    from data.distributed.prepare import Preparation, on_cluster
    from data.prepared.run import unfinished
    from training.progress import bar

    preparation = Preparation(
        clicks,
        unfinished(out),
        options.rows_per_partition,
        lambda title: bar(console, title, ""),
        lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    return on_cluster(preparation, options)
