"""Agreement of the processes of a run: they have the same clicks, recipe, version and weights."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from recsys.errors import BadInput
from training.parallel.processes import Processes


def check_agreement(processes: Processes, facts: Mapping[str, str]) -> None:
    """Compare the facts of all processes.

    Args:
        processes: The processes of the run.
        facts: A value for each name, as this process has it.

    Raises:
        BadInput: They differ; the same message in all processes.
    """
    if processes.size == 1:
        return
    of_ranks = [json.loads(text) for text in processes.gather(json.dumps(dict(facts)))]
    problems = []
    for name in dict.fromkeys(name for given in of_ranks for name in given):
        values = [given.get(name, "nothing") for given in of_ranks]
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            problems.append(
                f"{name}: process 0 has {values[0]}, process {other} has {values[other]}."
            )
    if problems:
        problems.append("Start all processes with the same command, files and versions.")
        raise BadInput("The processes of the run disagree", problems)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return a number that changes with nearly every change of the float32 tensors' bits."""
    total = 0
    for place, tensor in enumerate(tensors.values(), 1):
        bits = tensor.contiguous().view(torch.int32)
        total += place * int(bits.sum(dtype=torch.int64))
    return str(total)
