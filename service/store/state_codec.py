"""Binary format of a cached hidden state, with a tag that says which state it is.

    state id, session nonce (16 ASCII each) · clicks (uint64) · L, width (uint16) · crc32 · float32…

The numbers stay float32: float16 changed the order of 6 % of top-20 lists.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HEADER = struct.Struct("<16s16sQHHI")


@dataclass(frozen=True, slots=True)
class StateTag:
    """Identity of a state: model and overlay, the session, and how many clicks it includes."""

    state_id: str  # of `Predictor.state_id`
    nonce: str
    clicks: int


def encode(tag: StateTag, state: NDArray[np.float32]) -> bytes:
    """Return the bytes of a state of shape (L, width) and its tag."""
    numbers = state.astype("<f4", copy=False).tobytes()
    layers, width = state.shape
    header = _HEADER.pack(
        tag.state_id.encode(), tag.nonce.encode(), tag.clicks, layers, width, zlib.crc32(numbers)
    )
    return header + numbers


def decode(blob: bytes | None, layers: int, width: int) -> tuple[StateTag, Tensor] | None:
    """Return the tag and the float32 state of shape (L, width).

    Return None if the bytes are missing, damaged or of another shape.
    """
    if blob is None or len(blob) != _HEADER.size + 4 * layers * width:
        return None
    state_id, nonce, clicks, stored_layers, stored_width, checksum = _HEADER.unpack_from(blob)
    numbers = blob[_HEADER.size :]
    if (stored_layers, stored_width) != (layers, width) or zlib.crc32(numbers) != checksum:
        return None
    values = np.frombuffer(numbers, dtype="<f4").reshape(layers, width)
    tag = StateTag(state_id.decode("ascii", "replace"), nonce.decode("ascii", "replace"), clicks)
    return tag, torch.from_numpy(values.astype(np.float32))
