"""File of a bundle with the content: its fields, its learned numbers, and two examples."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recsys.content.encoder import ContentEncoder, ContentTables
from recsys.content.model import ContentFunction
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import ContentField, ContentSchema
from recsys.errors import BundleRefused

EXAMPLES = "examples"
TABLES = ("values", "projection", "center", "factor")
TOLERANCE = 1e-4  # of the examples: processors differ


def write_encoder(path: Path, encoder: ContentEncoder) -> None:
    """Write the file; the formula is a file of its own."""
    tensors = {name: getattr(encoder.tables, name).contiguous() for name in TABLES}
    fields = [asdict(field) for field in encoder.schema.fields]
    new_items = asdict(encoder.new_items)
    about = {"bias": encoder.mean_bias, "new_items": new_items, "fields": fields}
    metadata = {"content": json.dumps(about)}
    save_file({**tensors, EXAMPLES: encoder.examples().clone()}, path, metadata=metadata)


def read_encoder(
    path: Path,
    function: ContentFunction,
    *,
    hidden: int,
    normalizes: bool,
    others: Sequence[str],
) -> ContentEncoder:
    """Read the file.

    Args:
        path: the file.
        function: the formula.
        hidden: H.
        normalizes: as for `ContentEncoder`.
        others: as for `ContentEncoder`.

    Raises:
        BundleRefused: the file is not one, or gives other vectors for its examples.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["content"])
            tensors = {name: file.get_tensor(name) for name in (*TABLES, EXAMPLES)}
        fields = [
            ContentField(**{**field, "values": tuple(field["values"])})
            for field in values["fields"]
        ]
        bias, new_items = float(values["bias"]), NewItemTerm(**values["new_items"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as broken:
        raise BundleRefused(f"{path} cannot be read ({broken}). Train it anew.") from broken
    schema = ContentSchema(tuple(fields))
    examples = tensors.pop(EXAMPLES)
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    columns, width = schema.columns, hidden + 1
    wanted = [(max(schema.rows, 1), width), (columns, width), (columns,), (columns,)]
    are_finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    if shapes != wanted or not are_finite:
        raise BundleRefused(f"{path}: the tables are not those of its fields. Train it anew.")
    encoder = ContentEncoder(
        schema,
        ContentTables(**tensors),
        function,
        bias=bias,
        new_items=new_items,
        normalizes=normalizes,
        others=others,
    )
    found = encoder.examples()
    if found.shape != examples.shape or not torch.allclose(found, examples, atol=TOLERANCE):
        raise BundleRefused(f"{path} gives other vectors than when it was written. Train it anew.")
    return encoder
