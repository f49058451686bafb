"""Content of eight items with every kind of field, as columns and as the service gets it."""

import numpy as np
import pyarrow as pa

from data.content import NO_TIME, ContentColumn

IDS = list("abcdefgh")
COLOURS = ["red", "red", "red", "blue", None, "green", "red", "mauve"]
TAGS = [["x", "y"], ["x"], ["x", "y"], ["y"], [], ["z"], ["x", "z"], None]
PRICES = [1.0, 2.0, 3.0, None, 5.0, 6.0, 100.0, None]
IMAGES = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], None, [2.0, 0.0], [0.0, 2.0], [3.0, 3.0], None]
TIMES = [1_000, 2_000, None, 4_000, 5_000, 6_000, 7_000, 8_000]  # seconds

ITEMS = [
    (
        {"colour": colour, "tags": tags, "price": price, "since": time},
        {} if image is None else {"image": image},
    )
    for colour, tags, price, image, time in zip(COLOURS, TAGS, PRICES, IMAGES, TIMES, strict=True)
]
COLUMNS = (
    ContentColumn(
        "colour",
        "categorical",
        texts=pa.array([[c] if c else [] for c in COLOURS], pa.large_list(pa.string())),
    ),
    ContentColumn(
        "tags", "multi", texts=pa.array([t or [] for t in TAGS], pa.large_list(pa.string()))
    ),
    ContentColumn("price", "numeric", numbers=np.array(PRICES, dtype=np.float64)),
    ContentColumn(
        "since",
        "time",
        times_ms=np.array([NO_TIME if t is None else t * 1000 for t in TIMES], dtype=np.int64),
    ),
    ContentColumn(
        "image",
        "vector",
        matrix=np.array([i for i in IMAGES if i], dtype=np.float32),
        rows=np.array([0, 1, 2, -1, 3, 4, 5, -1]),
    ),
)
