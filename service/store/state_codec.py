"""A user's hidden state ↔ bytes, with the tag that says what it is the state of.

    model id, session nonce (16 ASCII each) · clicks (uint64) · L, W (uint16) · crc32 · float32…

float32 is kept as it is: float16 changed the order of 6 % of top-20 lists.
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
class Tag:
    """Which state this is: of which model, which session, after how many of its clicks."""

    model_id: str
    nonce: str
    clicks: int


def encode(tag: Tag, state: NDArray[np.float32]) -> bytes:
    """state: (L, W)."""
    numbers = state.astype("<f4", copy=False).tobytes()
    layers, width = state.shape
    header = _HEADER.pack(
        tag.model_id.encode(), tag.nonce.encode(), tag.clicks, layers, width, zlib.crc32(numbers)
    )
    return header + numbers


def decode(blob: bytes | None, layers: int, width: int) -> tuple[Tag, Tensor] | None:
    """The tag and the (L, W) state, or None where the bytes are lost, damaged or oversized."""
    if blob is None or len(blob) != _HEADER.size + 4 * layers * width:
        return None
    model_id, nonce, clicks, found_layers, found_width, checksum = _HEADER.unpack_from(blob)
    numbers = blob[_HEADER.size :]
    if (found_layers, found_width) != (layers, width) or zlib.crc32(numbers) != checksum:
        return None
    values = np.frombuffer(numbers, dtype="<f4").reshape(layers, width)
    tag = Tag(model_id.decode("ascii", "replace"), nonce.decode("ascii", "replace"), clicks)
    return tag, torch.from_numpy(values.astype(np.float32))
