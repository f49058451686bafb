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
from recsys.cli.click_options import takes_clicks
from recsys.console import open_console

if TYPE_CHECKING:
    from data.prepared.run import Writer

app = typer.Typer()


@app.command(rich_help_panel="Learn")
@takes_clicks
def prepare(
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
) -> None:
    """Read, filter and split clicks once, for recsys train --prepared.

    The folder holds the training and test sessions as arrays. A second run on the same files with
    the same options does nothing. Workers decide nothing about the result.
    """
    from data.prepared.run import in_memory, make_folder
    from training.progress import bar, counts_table, warn

    console, out = open_console(stderr=True), out.resolve()
    with cleaning_up_after_sigterm():
        if workers is None and worker_memory is None and cluster is None:
            with bar(console, "Reading clicks", "") as progress:
                folder, written = make_folder(out, clicks, in_memory(clicks, progress))
        else:
            writer = _on_cluster(clicks, workers, worker_memory, cluster, console)
            folder, written = make_folder(out, clicks, writer)
    console.print(counts_table(folder.manifest.counts))
    warn(console, folder.manifest.duplicates.warning)
    if written:
        said = f"Prepared clicks are in\n  {out}"
    else:
        said = f"Nothing has changed since the clicks were prepared in\n  {out}"
    console.print(
        f"\n{said}\nTrain on them:\n  recsys train --prepared {out} --out …",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )


@contextmanager
def cleaning_up_after_sigterm() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, so that no folder stays."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _on_cluster(
    clicks: ClickOptions,
    workers: int | None,
    worker_memory: str | None,
    address: str | None,
    console: Console,
) -> "Writer":
    from data.distributed.runner import ClusterOptions, check_installed
    from training.progress import bar

    check_installed()
    from data.distributed.prepare import on_cluster

    options = ClusterOptions(workers, worker_memory, address)
    if address is not None:  # its workers have working directories of their own
        clicks = replace(clicks, path=clicks.path.resolve())
    return on_cluster(clicks, options, lambda title: bar(console, title, ""))
