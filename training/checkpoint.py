"""Checkpoints: all a run needs to go on where it stopped, in one file, replaced atomically.

A run that is killed and resumed ends with the weights of one that was not: the file holds the
weights, the best weights so far, the optimiser, the lanes' state and the random generator.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.sessions import Sessions
from recsys.errors import BadInput
from recsys.fileio import replace_file
from training.recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one pass over the sessions gave."""

    phase: str  # "search" with validation, "refit" on everything
    epoch: int
    loss: float  # mean over the events
    seconds: float
    events: int
    metrics: dict[str, float] = field(default_factory=dict)  # on the validation sessions
    gradient_norm: float = 0.0  # mean of the steps where it was measured


@dataclass
class TrainerState:
    """Where a run stands; everything in it is JSON."""

    phase: str = "search"
    epoch: int = 0  # epochs finished in this phase
    step: int = 0  # steps finished in this epoch
    loss_sum: float = 0.0  # over this epoch's steps
    seconds: float = 0.0  # spent on this epoch's steps
    norms: list[float] = field(default_factory=list)  # of this epoch's gradients, some steps
    best_epoch: int = 0
    best_score: float = -1.0
    blend_weight: float = 0.0  # of the neighbours, chosen when the search is over
    results: list[EpochResult] = field(default_factory=list)


def fingerprint(train: Sessions, valid: Sessions | None, recipe: Recipe, start: str = "") -> str:
    """Differs whenever clicks, recipe or `start` do; a checkpoint of another run is refused."""
    content = hashlib.sha256(json.dumps(dataclasses.asdict(recipe), sort_keys=True).encode())
    content.update(start.encode())
    for sessions in (train, valid):
        if sessions is not None:
            for part in (sessions.items, sessions.offsets, sessions.time_ms):
                content.update(np.ascontiguousarray(part).tobytes())
            content.update("\n".join(sessions.item_ids).encode())
    return content.hexdigest()


def save_checkpoint(
    folder: Path, mark: str, position: TrainerState, groups: dict[str, dict[str, Tensor]]
) -> None:
    """groups: name of the owner → its tensors (weights, best, learner)."""
    tensors = {
        f"{owner}/{name}": tensor.detach().cpu().contiguous()
        for owner, named in groups.items()
        for name, tensor in named.items()
    }
    about = {"fingerprint": mark, "position": json.dumps(dataclasses.asdict(position))}
    replace_file(folder / CHECKPOINT, lambda path: save_file(tensors, path, metadata=about))


def load_checkpoint(
    folder: Path, mark: str
) -> tuple[TrainerState, dict[str, dict[str, Tensor]]] | None:
    """The checkpoint of this very run, or None where there is none; raises `BadInput`."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        values = json.loads(about["position"])
        results = [EpochResult(**result) for result in values.pop("results")]
        position = TrainerState(**values, results=results)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as broken:
        raise BadInput("The run cannot be resumed", [f"{path} is damaged ({broken})."]) from broken
    if about["fingerprint"] != mark:
        raise BadInput(
            "The run cannot be resumed",
            [
                f"{path} belongs to other clicks, options or another recipe. Repeat the first "
                "command, or delete the folder to begin anew."
            ],
        )
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        owner, _, rest = name.partition("/")
        groups.setdefault(owner, {})[rest] = tensor
    return position, groups
