"""File of a bundle with the content: its fields, its learned numbers, and two examples.

Files of older versions have no crosses and no similar items.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recsys.content.encoder import ContentEncoder, ContentTables
from recsys.content.model import ContentFunction
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import ContentField, ContentSchema, Cross
from recsys.content.similar_items import ClickedContents, Placing
from recsys.errors import BundleRefused

EXAMPLES = "examples"
TABLES = ("values", "projection", "center", "factor")
SIMILAR = {name: f"similar.{name}" for name in ("center", "content", "own", "counts")}
TOLERANCE = 1e-4  # of the examples: processors differ


def write_encoder(path: Path, encoder: ContentEncoder) -> None:
    """Write the file; the formula is a file of its own."""
    tensors = {name: getattr(encoder.tables, name).contiguous() for name in TABLES}
    about = {**asdict(encoder.schema), "new_items": asdict(encoder.new_items)}
    similar = encoder.similar
    if similar is not None:
        tensors |= {key: getattr(similar, name) for name, key in SIMILAR.items()}
        about["placing"] = asdict(similar.placing)
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
            stored = set(file.keys())
            similar = {name: file.get_tensor(key) for name, key in SIMILAR.items() if key in stored}
        schema = _schema(values)
        items = (
            ClickedContents(**similar, placing=Placing(**values["placing"])) if similar else None
        )
        new_items = NewItemTerm(**values["new_items"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as broken:
        raise BundleRefused(f"{path} cannot be read ({broken}). Train it anew.") from broken
    examples = tensors.pop(EXAMPLES)
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    columns, width = schema.columns, hidden + 1
    wanted = [(max(schema.rows, 1), width), (columns, width), (columns,), (columns,)]
    learned = [*tensors.values(), *similar.values()]
    are_finite = all(bool(torch.isfinite(tensor).all()) for tensor in learned)
    fits = items is None or items.fits(hidden)
    if shapes != wanted or not are_finite or not fits or not _crosses_fit(schema):
        raise BundleRefused(f"{path}: the tables are not those of its fields. Train it anew.")
    encoder = ContentEncoder(
        schema,
        ContentTables(**tensors),
        function,
        new_items=new_items,
        similar=items,
        normalizes=normalizes,
        others=others,
    )
    found = encoder.examples()
    if found.shape != examples.shape or not torch.allclose(found, examples, atol=TOLERANCE):
        raise BundleRefused(f"{path} gives other vectors than when it was written. Train it anew.")
    return encoder


def _schema(values: Mapping[str, Any]) -> ContentSchema:
    """Return the schema that `dataclasses.asdict` turned into these values."""
    fields = (
        ContentField(**{**field, "values": tuple(field["values"])}) for field in values["fields"]
    )
    crosses = (
        Cross(tuple(cross["names"]), tuple(cross["values"])) for cross in values.get("crosses", [])
    )
    return ContentSchema(tuple(fields), tuple(crosses))


def _crosses_fit(schema: ContentSchema) -> bool:
    """Return whether the schema has every attribute that its crosses name."""
    names = {field.name for field in schema.fields if field.kind == "categorical"}
    return all(names.issuperset(cross.names) for cross in schema.crosses)
