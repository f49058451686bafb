"""Processes of `recsys train`: this one, those that torchrun has started, or new ones."""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.console import open_console
from recsys.errors import BadInput, Interrupted

if TYPE_CHECKING:
    from training.pipeline import TrainOptions


def check_processes(processes: int) -> None:
    """Raise `BadInput` where torchrun and --processes would both start processes."""
    from training.parallel.torch_processes import started_by_torchrun

    if started_by_torchrun() and processes > 1:
        raise BadInput(
            "--processes cannot be used",
            [
                f"torchrun started this process, and --processes {processes} would start "
                "more. Leave it out, and give torchrun --nproc-per-node."
            ],
        )


def train_on_processes(options: "TrainOptions", processes: int) -> Path | None:
    """Train; return the folder of the bundle, or None where another process writes it.

    Args:
        options: Options of the run.
        processes: Number of new processes, or 1 for this one or those of torchrun.
    """
    from training.device import device_of_process
    from training.parallel.launch import launch
    from training.parallel.torch_processes import started_by_torchrun
    from training.pipeline import train

    if started_by_torchrun():
        return _train_as_one_of_many(options)
    if processes > 1:
        device_of_process(options.device, processes - 1)  # a card for each, before any starts
        return launch(partial(_train_as_one_of_many, options), processes)
    return train(options, open_console(stderr=True))


def _train_as_one_of_many(options: "TrainOptions") -> Path | None:
    """Train in a process that torchrun started; return the bundle's folder in the first one."""
    from training.device import choose_device, device_of_process
    from training.parallel.torch_processes import joined, place_on_machine
    from training.pipeline import train

    device = device_of_process(options.device, place_on_machine())
    with joined(choose_device(device)) as processes:
        console = open_console(stderr=True, quiet=not processes.is_first)
        try:
            bundle = train(dataclasses.replace(options, device=device), console, processes)
        except Interrupted as interrupted:
            if processes.is_first:
                raise
            sys.exit(interrupted.status)  # the first process has the message
        return bundle if processes.is_first else None
