"""Checkpoints: everything that resumes a run, in one file that is replaced atomically.

A run that is killed and resumed ends with the same weights as an uninterrupted one: the file holds
the weights, the best weights so far, the optimizers, the carried state and the trainer's state.
Random numbers need no state; they follow from seed, epoch and step.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.sessions import Sessions
from recsys.content.new_items import NewItemTerm
from recsys.errors import BadInput
from recsys.fileio import replace_file
from recsys.model.recent_popularity import RecentPopularitySettings
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from training.parallel.processes import Processes, Traffic
from training.recipe import Recipe, original_names

CHECKPOINT = "checkpoint.safetensors"
# Raise it where the same clicks and recipe give other weights, blend or repeat term than before.
ALGORITHM_VERSION = 2


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Result of one epoch."""

    phase: str  # "search" with validation, "refit" on all sessions
    epoch: int
    loss: float  # mean over the clicks
    seconds: float
    events: int  # clicks that have a next click
    metrics: dict[str, float] = field(default_factory=dict)  # on the validation sessions
    gradient_norm: float = 0.0  # mean of the steps where it was measured
    processes: int = 1  # that shared the mini-batches
    communication_seconds: float = 0.0  # of the first process, its waiting for others included
    bytes_per_step: float = 0.0  # of the gradients that each process adds to those of the others


@dataclass(frozen=True, slots=True)
class Additions:
    """Terms beside the model."""

    repeats: RepeatTerm | None = None  # bonus for items of the session; None for no bonus
    repeats_summary: str = "none"  # a sentence for the console and the bundle
    blend: BlendSettings | None = None  # of session neighbours; None for the model alone
    recent: RecentPopularitySettings | None = None  # None where popularity at the end is not used
    recent_summary: str = "none"  # a sentence for the console and the bundle
    new_items: NewItemTerm | None = None  # None without content
    new_items_summary: str = "none"  # a sentence for the console and the bundle

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Additions":
        """Return the additions that `dataclasses.asdict` turned into these values."""
        repeats, blend, recent = values["repeats"], values["blend"], values["recent"]
        new_items = values["new_items"]
        return cls(
            None if repeats is None else RepeatTerm(**repeats),
            values["repeats_summary"],
            None if blend is None else BlendSettings.from_json(blend),
            None if recent is None else RecentPopularitySettings(**recent),
            values["recent_summary"],
            None if new_items is None else NewItemTerm(**new_items),
            values["new_items_summary"],
        )


@dataclass
class TrainerState:
    """Progress of a run; every field can be written as JSON."""

    phase: str = "search"
    epoch: int = 0  # epochs finished in this phase
    step: int = 0  # steps finished in this epoch
    loss_sum: float = 0.0  # over this epoch's steps
    seconds: float = 0.0  # of this epoch's steps
    norms: list[float] = field(default_factory=list)  # gradient norms of some of these steps
    traffic: Traffic = field(default_factory=Traffic)  # of this epoch's steps
    best_epoch: int = 0
    best_score: float = -1.0
    additions: Additions = field(default_factory=Additions)  # chosen at the end of the search
    results: list[EpochResult] = field(default_factory=list)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainerState":
        """Return the state that `dataclasses.asdict` turned into these values."""
        nested = {
            "traffic": Traffic(**values.get("traffic", {})),
            "additions": Additions.from_json(values["additions"]),
            "results": [EpochResult(**result) for result in values["results"]],
        }
        return cls(**{**values, **nested})


def fingerprint(
    train: Sessions, valid: Sessions | None, recipe: Recipe, initialiser: str = ""
) -> str:
    """Return a digest of clicks, recipe and initialiser, so that no run resumes another one.

    It is made of the settings' first names, so that renaming one invalidates no checkpoint. The
    version of the algorithm is in it, so that no run ends with other weights than it began for.
    """
    content = hashlib.sha256(json.dumps(original_names(recipe), sort_keys=True).encode())
    content.update(f"algorithm {ALGORITHM_VERSION}".encode())
    content.update(initialiser.encode())
    for sessions in (train, valid):
        if sessions is not None:
            for part in (sessions.items, sessions.offsets, sessions.time_ms):
                content.update(np.ascontiguousarray(part).data)
            content.update("\n".join(sessions.item_ids).encode())
            if sessions.events is not None:
                content.update(np.ascontiguousarray(sessions.events).data)
                content.update("\n".join(sessions.event_types).encode())
    return content.hexdigest()


def save_checkpoint(
    folder: Path, run: str, state: TrainerState, groups: dict[str, dict[str, Tensor]]
) -> None:
    """Write the checkpoint of a run.

    Args:
        folder: Folder of the run.
        run: Fingerprint of the run.
        state: Progress of the run.
        groups: Tensors by group (weights, learner, best) and name.

    Raises:
        OSError: The file cannot be written; the one before stays.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _flat(groups).items()}
    metadata = {"fingerprint": run, "position": json.dumps(dataclasses.asdict(state))}
    replace_file(folder / CHECKPOINT, lambda path: save_file(tensors, path, metadata=metadata))


def load_checkpoint(
    folder: Path, run: str
) -> tuple[TrainerState, dict[str, dict[str, Tensor]]] | None:
    """Return state and tensors by group of this run's checkpoint, or None where there is none.

    Raises:
        BadInput: The checkpoint is damaged or belongs to a run with another fingerprint.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if metadata["fingerprint"] != run:
            raise BadInput(
                "The run cannot be resumed",
                [
                    f"{path} belongs to other clicks, options or another recipe, or to another "
                    "version. Repeat the first command, or delete the folder to begin anew."
                ],
            )
        state = TrainerState.from_json(json.loads(metadata["position"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as broken:
        raise BadInput("The run cannot be resumed", [f"{path} is damaged ({broken})."]) from broken
    return state, _grouped(tensors)


def load_for_all(
    folder: Path, run: str, processes: Processes
) -> tuple[TrainerState, dict[str, dict[str, Tensor]]] | None:
    """Return the checkpoint that the first process loads, which alone needs the folder.

    Raises:
        BadInput: As `load_checkpoint`.
        AnotherProcessFailed: This is another process, and the first one raised `BadInput`.
    """
    loaded = None
    with processes.all_or_none():
        if processes.is_first:
            loaded = load_checkpoint(folder, run)
    if processes.size == 1:
        return loaded
    tensors, contents = {}, None
    if loaded is not None:
        tensors = _flat(loaded[1])
        shapes = {name: [list(t.shape), str(t.dtype)] for name, t in tensors.items()}
        contents = {"state": dataclasses.asdict(loaded[0]), "shapes": shapes}
    contents = processes.of_first(contents)
    if contents is None:
        return None
    if loaded is None:
        for name, (shape, dtype) in contents["shapes"].items():
            tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
    processes.broadcast(list(tensors.values()))
    return TrainerState.from_json(contents["state"]), _grouped(tensors)


def _flat(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{group}/{name}": tensor
        for group, named in groups.items()
        for name, tensor in named.items()
    }


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    return groups
