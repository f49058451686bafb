"""Click log whose next item depends on the type of the click, with ceilings that are known.

The items are the numbers from 0. A view of item i is followed by an item of chain A, (i + 1) mod
items; a cart of item i by an item of chain B, (i + items / 2) mod items; each with probability
FOLLOWED, else by any item, uniformly. A click is a cart with probability CARTS, independent of all
before, else a view. So the next item is, with q = (1 − FOLLOWED) / items for a random hit,

    with the type      the item of the chain:      Recall@1 = FOLLOWED + q
    without the type   the item of chain A:        Recall@1 = (1 − CARTS) · FOLLOWED + q

An order ends a session: it is a click on the item in the cart before, with probability ORDERS after
a cart. It is the target of the last case alone, and is an exact repeat of the item.
"""

from pathlib import Path

import numpy as np

FOLLOWED, CARTS, ORDERS = 0.8, 0.4, 0.2
HEADER = "session_id,item_id,timestamp,event\n"
LONGEST = 8  # clicks of a session before an order


def typed_rows(sessions: int, items: int, seed: int = 1) -> list[tuple[int, int, int, str]]:
    """Return (session, item, seconds, type) of each click."""
    random = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, str]] = []
    for session in range(sessions):
        item, now = int(random.integers(items)), 1000 * session
        for at in range(int(random.integers(3, LONGEST + 1))):
            is_cart = random.random() < CARTS
            rows.append((session, item, now + 2 * at, "cart" if is_cart else "view"))
            if is_cart and random.random() < ORDERS:
                rows.append((session, item, now + 2 * at + 1, "order"))
                break
            step = items // 2 if is_cart else 1
            follows = random.random() < FOLLOWED
            item = (item + step) % items if follows else int(random.integers(items))
    return rows


def write_typed_log(path: Path, sessions: int, items: int, seed: int = 1) -> Path:
    """Write the log as CSV and return its path."""
    lines = [",".join(map(str, row)) + "\n" for row in typed_rows(sessions, items, seed)]
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path
