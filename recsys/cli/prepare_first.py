"""Preparation before training: a log that may not fit into the memory is trained from disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data.click_options import ClickOptions
from recsys.cli.prepare import stopping_by_signals, writer_on
from recsys.errors import BadInput
from recsys.fileio import check_new_folder

if TYPE_CHECKING:
    from data.distributed.this_machine import Room
    from data.prepared.folder import PreparedFolder

PREPARED = ".prepared"  # ending of the folder beside the bundle


def source_of(
    clicks: ClickOptions, out: Path, console: Console, prepare_first: bool | None
) -> "ClickOptions | PreparedFolder":
    """Return the clicks, or the folder where workers of this machine have prepared them.

    Args:
        clicks: The log.
        out: Folder of the bundle; the prepared clicks are beside it.
        console: Where it is said, with the progress.
        prepare_first: None to prepare where the log may not fit into the memory.

    Raises:
        BadInput: The clicks or the folder cannot be used, Dask is not installed, or processes of
            torchrun would all prepare.
    """
    from data.distributed.runner import missing_packages
    from data.distributed.this_machine import Room
    from training.parallel.torch_processes import started_by_torchrun

    room = Room.of(clicks)
    if prepare_first is None:
        prepare_first = not room.suffices
    if not prepare_first:
        return clicks
    if started_by_torchrun():
        raise BadInput(
            "The clicks must be prepared",
            [
                f"they take {room.figures} for all processes of a machine. Prepare them once with "
                "recsys prepare, and give --prepared to torchrun's processes; or --in-memory."
            ],
        )
    if missing := missing_packages():
        raise BadInput(
            "The clicks must be prepared",
            [
                f"they take {room.figures}, and {missing} are not installed. Install "
                "session-recsys[prepare], or read them in memory with --in-memory."
            ],
        )
    check_new_folder(out, "The bundle")
    folder = out.with_name(out.name + PREPARED)
    console.print(
        f"The clicks take {room.figures}: they are prepared first, in\n  {folder}",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )
    return prepared_folder(clicks, folder, room, console)


def prepared_folder(
    clicks: ClickOptions, folder: Path, room: "Room", console: Console
) -> "PreparedFolder":
    """Prepare the clicks with a worker for each processor, unless the folder has them."""
    from data.prepared.run import make_folder

    with stopping_by_signals():
        return make_folder(folder, clicks, writer_on(room.workers(), clicks, folder, console))[0]
