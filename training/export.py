"""Export: trained weights to a bundle folder, with the golden sessions' lists before the export.

This file and `recsys/bundle/load.py` are the only ones that use TorchScript.
"""

import dataclasses
import platform
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import recsys
from data.sessions import Sessions
from recsys.bundle.golden import compute_golden_session, open_predictor, write_golden
from recsys.bundle.layout import (
    CONTENT,
    CONTENT_MODEL,
    FILES,
    GOLDEN,
    INDEX,
    ITEMS,
    MANIFEST,
    MODEL,
    NEIGHBOURS,
    NEWEST_CLICKS,
    NEWEST_MS,
    OPTIONAL,
    REPORT,
    WEIGHTS,
)
from recsys.bundle.load import digest, model_id_of
from recsys.bundle.manifest import FORMAT_VERSION, Manifest
from recsys.catalogue.catalogue import Catalogue
from recsys.content.file import write_encoder
from recsys.content.model import ContentSum
from recsys.fileio import new_folder
from recsys.model.gru4rec import SessionRNN
from recsys.model.recent_popularity import RecentPopularity
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe
from training.retrieval.recall_check import EVERY_ITEM, ChosenRetrieval

GOLDEN_SESSIONS = 24
UNKNOWN_ID = "an item that no catalogue has"
UNKNOWN_TYPE = "a type that no model has"
SCRIPTING = threading.Lock()  # torch compiles the classes of a process in one place
LIBRARIES = ("numpy", "pandas", "pyarrow", "safetensors")


class ScriptedModel(nn.Module):
    """Methods of a bundle's `model.ts`, each of them one of `SessionRNN`."""

    def __init__(self, model: SessionRNN) -> None:
        super().__init__()
        self.model = model

    @torch.jit.export
    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor:
        return self.model.step(inputs, clicked, state)

    @torch.jit.export
    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.replay(inputs, clicks, lengths)

    @torch.jit.export
    def scores(self, matrix: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        return self.model.scores(matrix, bias, hidden)

    @torch.jit.export
    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self.model.top_k(scores, k)


@dataclass(frozen=True)
class Export:
    """Contents of a bundle."""

    weights: Weights
    catalogue: Catalogue
    recipe: Recipe
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    golden: Sequence[Sequence[str]]  # item ids of the golden sessions
    repeats: RepeatTerm | None = None
    blend: Blend | None = None
    recent: RecentPopularity | None = None
    retrieval: ChosenRetrieval = EVERY_ITEM
    report: Callable[[Manifest], str] | None = None  # makes the HTML report
    golden_events: Sequence[Sequence[str | None]] = ()  # types of the golden clicks, if there are


def write_bundle(out: Path, export: Export) -> Manifest:
    """Write a bundle, verify it by loading it, and only then let `out` appear.

    Returns:
        The bundle's manifest.

    Raises:
        BundleRefused: The loaded bundle does not give the golden sessions' lists.
        OSError: A file cannot be written.
    """
    with new_folder(out) as folder:
        export.weights.model.cpu().eval()
        _script(ScriptedModel(export.weights.model), folder / MODEL)
        encoder = export.weights.encoder(sorted(export.catalogue.attributes))
        exported = export.weights.exported(encoder)
        tensors = {name: tensor.contiguous() for name, tensor in exported.tensors().items()}
        if export.recent is not None:
            tensors[NEWEST_CLICKS] = torch.from_numpy(export.recent.newest)
            if export.recent.is_trending:
                tensors[NEWEST_MS] = torch.tensor(export.recent.at_ms)
        save_file(tensors, folder / WEIGHTS)
        export.catalogue.write(folder / ITEMS)
        if export.blend is not None:
            export.blend.index.write(folder / NEIGHBOURS)
        if export.retrieval.index is not None:
            export.retrieval.index.write(folder / INDEX)
        predictor = eager_predictor(
            exported,
            export.catalogue,
            export.recipe,
            export.blend,
            export.repeats,
            export.recent,
        )
        if encoder is not None:
            write_encoder(folder / CONTENT, encoder)
            _script(ContentSum(), folder / CONTENT_MODEL)
        write_golden(
            folder / GOLDEN,
            [
                compute_golden_session(predictor, clicks, events)
                for clicks, events in zip_longest(export.golden, export.golden_events, fillvalue=())
            ],
        )
        named = [name for name in (*FILES, *OPTIONAL) if (folder / name).exists()]
        manifest = _manifest(export, {name: digest(folder / name) for name in named})
        if export.report is not None:
            (folder / REPORT).write_text(export.report(manifest), encoding="utf-8")
            files = {**manifest.files, REPORT: digest(folder / REPORT)}
            manifest = dataclasses.replace(manifest, files=files)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        open_predictor(folder)
    return manifest


def golden_clicks(
    sessions: Sessions, window: int
) -> tuple[list[list[str]], list[list[str | None]]]:
    """Return real sessions of all lengths, a full window, and sessions with unknown items or types.

    Args:
        sessions: Items are codes of their log.
        window: Clicks that the model reads, at most.

    Returns:
        Item ids and types of their clicks; no types where they do not count.
    """
    count = min(GOLDEN_SESSIONS, len(sessions))
    places = np.linspace(0, len(sessions) - 1, num=count, dtype=int).tolist()
    picked = sessions.at_places_by_length(places)
    clicks = [[sessions.item_ids[code] for code in sessions[s].tolist()] for s in picked]
    longest = clicks[-1]
    times = window // len(longest) + 2
    clicks += [(longest * times)[: window + 5], [longest[0], UNKNOWN_ID], [UNKNOWN_ID]]
    if sessions.events is None:
        return clicks, []
    names: list[str | None] = [None, *sessions.event_types]
    parts = (sessions.part(session, session + 1).events for session in picked)
    events = [[names[number] for number in part.tolist()] for part in parts if part is not None]
    events += [(events[-1] * times)[: window + 5], [UNKNOWN_TYPE, None], [None]]
    return clicks, events


def _script(module: nn.Module, path: Path) -> None:
    with SCRIPTING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.*` is deprecated", DeprecationWarning)
        scripted = torch.jit.script(module)
        # through memory: torch's own writer ends the process where the disk is full
        path.write_bytes(scripted.save_to_buffer())  # type: ignore[no-untyped-call]


def _manifest(export: Export, digests: Mapping[str, str]) -> Manifest:
    recipe = export.recipe
    types = export.weights.event_types
    size = recipe.size(len(export.catalogue), types.count)
    event_types = types if types.names else None
    blend = None if export.blend is None else export.blend.settings
    recent = None if export.recent is None else export.recent.settings
    return Manifest(
        format_version=FORMAT_VERSION,
        model_id=model_id_of(
            digests,
            recipe.window,
            size,
            (export.repeats, blend, export.retrieval.settings.index, recent, event_types),
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        size=size,
        window=recipe.window,
        recipe=dataclasses.asdict(recipe),
        metrics=export.metrics,
        training=export.training,
        versions={
            "session-recsys": recsys.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: version(name) for name in LIBRARIES},
        },
        files=dict(digests),
        repeats=export.repeats,
        blend=blend,
        recent_popularity=recent,
        event_types=event_types,
        retrieval=export.retrieval.settings,
    )
