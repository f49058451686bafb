"""Builds and reads an index of any kind."""

from pathlib import Path

from torch import Tensor

from recsys.candidates import PROBED, CandidateIndex, IndexSettings
from recsys.faiss_index import build_faiss, read_faiss
from recsys.int8_scan import build_int8, read_int8


def build_index(matrix: Tensor, bias: Tensor, kind: str, bias_unit: float) -> CandidateIndex:
    """matrix: (N, H) float32, bias: (N,); bias_unit: about as long as queries are."""
    settings = IndexSettings(kind, bias_unit, probes=int(kind in PROBED))
    build = build_int8 if kind == "int8" else build_faiss
    return build(matrix, bias, settings)


def read_candidates(path: Path, settings: IndexSettings, items: int, width: int) -> CandidateIndex:
    """Raises `BundleRefused`; width: H, numbers of an item vector without its bias."""
    read = read_int8 if settings.kind == "int8" else read_faiss
    return read(path, settings, items, width)
