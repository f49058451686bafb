"""Turn names and pictures of items into vectors, which `recsys train --vectors` reads.

    python examples/encode_items.py --items shop/items.csv --pictures shop/pictures --out shop

An example to adapt. `text_vectors` and `picture_vectors` take a batch of items and return one row
of numbers for each: here goes your encoder, such as a language model for texts or a vision model
for photos. Both functions here need no network and learn nothing, so an item has the same vector
on every day. An encoder that is fitted on the items must be kept, because a model reads the
vectors of new items as those that it was trained with.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from sklearn.feature_extraction.text import HashingVectorizer

ITEMS_AT_ONCE = 1_000  # in memory
TEXT_NUMBERS = 256  # of the vector of a text; with fewer, more n-grams share a number
LEVELS = 4  # of each colour: 4 · 4 · 4 = 64 numbers for a picture
PIXELS = 64  # side of a picture before its colours are counted

Batch = tuple[Sequence[str], NDArray[np.float32]]  # item ids and their vectors


def text_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return hashed n-grams of letters, (texts, TEXT_NUMBERS) float32, each of length 1."""
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=TEXT_NUMBERS)
    vectors: NDArray[np.float32] = hashing.transform(texts).toarray().astype(np.float32)
    return vectors


def picture_vectors(pictures: Sequence[Path]) -> NDArray[np.float32]:
    """Return colour histograms, (pictures, LEVELS ** 3) float32, each of length 1."""
    return np.stack([histogram(path) for path in pictures])


def histogram(path: Path) -> NDArray[np.float32]:
    """Return the roots of the shares of the colours in a picture."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((PIXELS, PIXELS))).reshape(-1, 3)
    level = pixels.astype(np.int64) * LEVELS // 256
    colour = (level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2]
    counts = np.bincount(colour, minlength=LEVELS**3)
    roots: NDArray[np.float32] = np.sqrt(counts / counts.sum()).astype(np.float32)
    return roots


def write_vectors(out: Path, batches: Iterator[Batch]) -> tuple[int, int]:
    """Write item ids and vectors, batch by batch; return the numbers of items and of numbers."""
    items = length = 0
    writer: pq.ParquetWriter | None = None
    for item_ids, vectors in batches:
        length = vectors.shape[1]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), length)
        table = pa.table({"item_id": pa.array(item_ids, pa.string()), "vector": column})
        writer = writer or pq.ParquetWriter(out, table.schema)
        writer.write_table(table)
        items += len(item_ids)
    if writer is None:
        raise SystemExit(f"There is nothing to encode for {out}. Check --items and --pictures.")
    writer.close()
    return items, length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=Path, required=True, help="CSV file with item_id")
    parser.add_argument("--text-column", default="name", help="column of --items to encode")
    parser.add_argument("--pictures", type=Path, help="folder of pictures, ITEM_ID.png")
    parser.add_argument("--out", type=Path, required=True, help="folder for the vectors")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(given.items, dtype=str).dropna(subset=[given.text_column])

    def texts() -> Iterator[Batch]:
        for at in range(0, len(table), ITEMS_AT_ONCE):
            some = table.iloc[at : at + ITEMS_AT_ONCE]
            yield some["item_id"].tolist(), text_vectors(some[given.text_column].tolist())

    def pictures() -> Iterator[Batch]:
        files = {i: given.pictures / f"{quote(i, safe='')}.png" for i in table["item_id"]}
        found = [item_id for item_id, path in files.items() if path.exists()]
        for at in range(0, len(found), ITEMS_AT_ONCE):
            some = found[at : at + ITEMS_AT_ONCE]
            yield some, picture_vectors([files[item_id] for item_id in some])

    kinds = {"text": texts} | ({} if given.pictures is None else {"image": pictures})
    for name, batches in kinds.items():
        path = given.out / f"{name}.parquet"
        items, length = write_vectors(path, batches())
        print(f"{path}: {items:,} items, {length} numbers each")


if __name__ == "__main__":
    main()
