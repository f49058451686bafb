"""Entry of the live catalogue: what is known about one item beyond the bundle."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.content.encoder import ContentEncoder
from recsys.content.schema import as_text
from recsys.errors import UnknownAttribute, WrongContent

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """Changes of one item, all calls together. A value of None: the item has none."""

    available: bool = True
    attributes: Mapping[str, object] = field(default_factory=dict)
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def has_content(self) -> bool:
        """Return whether anything is known that an item vector can be computed from."""
        return bool(self.attributes or self.vectors)

    @property
    def digest(self) -> bytes:
        """Return a digest of all that an item vector is computed from."""
        content = blake2b(digest_size=DIGEST_BYTES)
        content.update(json.dumps(self.attributes, sort_keys=True).encode())
        for name in sorted(self.vectors):
            content.update(name.encode() + b"\0")
            content.update(np.asarray(self.vectors[name], np.float32).tobytes())
        return content.digest()


def text_of(value: object) -> str | None:
    """Return the text that a catalogue holds for the value of an attribute; None for no value."""
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return ", ".join(as_text(one) for one in value)
    return as_text(value)


def is_number(text: str | None) -> bool:
    """Return whether the text is a finite number, as those of an attribute with numbers are."""
    try:
        return text is None or math.isfinite(float(text))
    except ValueError:
        return False


def check_change(
    catalogue: Catalogue,
    content: ContentEncoder | None,
    attributes: Mapping[str, object],
    vectors: Mapping[str, Sequence[float]],
) -> None:
    """Check changes of one item against a bundle.

    Args:
        catalogue: items of the bundle.
        content: encoder of the bundle, if it has one.
        attributes: name → value.
        vectors: name → numbers.

    Raises:
        UnknownAttribute: the items have no such attribute.
        WrongContent: a value is not of the kind that the attribute has, or a vector not as long.
    """
    for name, value in attributes.items():
        field = f"attributes.{name}"
        if name not in catalogue.attributes:
            raise UnknownAttribute(name, sorted(catalogue.attributes), field)
        if not is_number(text_of(value)) and catalogue.attributes[name].numbers is not None:
            raise WrongContent(
                field, f"must be a number, as all values of the bundle are, got {value!r:.60}."
            )
    if content is not None:
        content.check(attributes, vectors)
