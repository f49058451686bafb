"""Index of the training sessions that can be neighbours, as arrays in a file of the bundle.

It holds item indices and ages in the order of time, and no session id or user id. The file is
memory-mapped, so that processes share it. It is checked in full before the first look-up.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.errors import BundleRefused


@dataclass(frozen=True)
class NeighbourIndex:
    """Sessions by age, the newest last, and for each item the newest sessions that hold it.

    The sessions of item i are holders[starts[i]:starts[i+1]], the newest first. The items of
    session s are clicks[offsets[s]:offsets[s+1]].
    """

    starts: NDArray[np.int32]  # (N + 1,)
    holders: NDArray[np.int32]  # (pairs,) session of each pair of item and session
    places: NDArray[np.int32]  # (pairs,) last position of the item in that session
    offsets: NDArray[np.int32]  # (sessions + 1,)
    clicks: NDArray[np.int32]  # (clicks,) item indices
    age_days: NDArray[np.float32]  # (sessions,) before the newest click of training
    rarity: NDArray[np.float32]  # (N,) log(training sessions / sessions that hold the item)

    @property
    def items(self) -> int:
        """Return N, the number of items."""
        return len(self.rarity)

    @property
    def sessions(self) -> int:
        """Return the number of sessions."""
        return len(self.age_days)

    def write(self, path: Path) -> None:
        """Write the arrays to one file."""
        save_file({name: getattr(self, name) for name in ARRAYS}, path)

    def faults(self, items: int, candidates: int) -> list[str]:
        """Return what is wrong with the arrays, one sentence each; empty where they are valid.

        Args:
            items: N of the catalogue.
            candidates: sessions of an item, at most.
        """
        return _shape_faults(self, items) or _content_faults(self, candidates)


ARRAYS = {
    name: np.float32 if name in ("age_days", "rarity") else np.int32
    for name in (field.name for field in fields(NeighbourIndex))
}


def read_index(path: Path, items: int, candidates: int) -> NeighbourIndex:
    """Memory-map and check the index of a bundle.

    Args:
        path: file of the index.
        items: N of the bundle.
        candidates: sessions of an item, at most.

    Raises:
        BundleRefused: the file is not a valid index.
    """
    try:
        with safe_open(path, framework="pt") as file:  # torch maps the file, numpy would copy
            arrays: dict[str, Any] = {name: file.get_tensor(name).numpy() for name in ARRAYS}
    except (OSError, SafetensorError, TypeError) as broken:  # TypeError: numpy lacks the dtype
        raise BundleRefused(f"{path} cannot be read ({broken}).") from broken
    index = NeighbourIndex(**arrays)  # faults() checks the dtypes
    faults = index.faults(items, candidates)
    if faults:
        raise BundleRefused(f"{path} is not an index of neighbours: {faults[0]} Train it anew.")
    return index


def _shape_faults(index: NeighbourIndex, items: int) -> list[str]:
    faults = [
        f"{name} must be a one-dimensional array of {np.dtype(kind).name}."
        for name, kind in ARRAYS.items()
        if getattr(index, name).dtype != kind or getattr(index, name).ndim != 1
    ]
    if faults:
        return faults
    if len(index.rarity) != items or len(index.starts) != items + 1:
        return [f"it has {len(index.rarity):,} items, the catalogue {items:,}."]
    if len(index.offsets) != len(index.age_days) + 1 or len(index.places) != len(index.holders):
        return ["its arrays have different lengths."]
    for name, bounds, end in (
        ("starts", index.starts, len(index.holders)),
        ("offsets", index.offsets, len(index.clicks)),
    ):
        if bounds[0] != 0 or bounds[-1] != end or (np.diff(bounds.astype(np.int64)) < 0).any():
            faults.append(f"{name} must rise from 0 to {end:,}.")
    return faults


def _content_faults(index: NeighbourIndex, candidates: int) -> list[str]:
    for name in ("age_days", "rarity"):
        values = getattr(index, name)
        if not np.isfinite(values).all() or (values < 0).any():
            return [f"{name} must be finite and not below 0."]
    for name, limit in (("holders", index.sessions), ("clicks", index.items)):
        values = getattr(index, name)
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            return [f"{name} must be from 0 to {limit - 1:,}."]
    counts = np.diff(index.starts)
    if counts.max(initial=0) > candidates:
        return [f"an item has {counts.max():,} sessions, the settings allow {candidates:,}."]
    holders, places = index.holders.astype(np.int64), index.places.astype(np.int64)
    item = np.repeat(np.arange(index.items), counts)
    lengths = np.diff(index.offsets)
    if (places < 0).any() or (places >= lengths[holders]).any():
        return ["places must lie within their sessions."]
    if (index.clicks[index.offsets[holders] + places] != item).any():
        return ["an item does not stand at its position in places."]
    if ((np.diff(holders) >= 0) & (np.diff(item) == 0)).any():
        return ["the sessions of an item must stand newest first, each once."]
    return []
