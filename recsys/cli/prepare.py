"""The command `recsys prepare`: clicks become a folder of arrays, which training maps."""

from pathlib import Path
from typing import Annotated

import typer

from data.click_options import ClickOptions
from recsys.cli.click_options import takes_clicks
from recsys.console import open_console

app = typer.Typer()


@app.command(rich_help_panel="Learn")
@takes_clicks
def prepare(
    clicks: ClickOptions,
    out: Annotated[Path, typer.Option(help="Folder for the prepared clicks; new or empty.")],
) -> None:
    """Read, filter and split clicks once, for recsys train --prepared.

    The folder holds the training and test sessions as arrays. A second run on the same files with
    the same options does nothing.
    """
    from data.prepared.run import in_memory, make_folder
    from training.progress import bar, counts_table, warn

    console, out = open_console(stderr=True), out.resolve()
    with bar(console, "Reading clicks", "") as progress:
        folder, written = make_folder(out, clicks, in_memory(clicks, progress))
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
