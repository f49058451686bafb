"""Click log whose next item depends on the type of the click, with ceilings that are known.

The items are the numbers from 0, and every type has a chain. With probability FOLLOWED, a click of
type t on item i is followed by one of the `successors` items after i + t · items / 3, each equally
likely, else by any item. The type of a click is independent of everything before: view .5, cart .3,
order .2. So the highest recall@k is, for k = successors and with q = (1 − FOLLOWED) · k / items for
random hits,

    for a model that knows the type      FOLLOWED + q
    for a model that does not            .5 · FOLLOWED + q       (it guesses the chain of a view)

for the targets of each type alike, and so for every weighted mean over types.
"""

from pathlib import Path

import numpy as np

FOLLOWED = 0.8
SHARES = {"view": 0.5, "cart": 0.3, "order": 0.2}
SHORTEST, LONGEST = 3, 8  # clicks of a session
HEADER = "session_id,item_id,timestamp,event\n"


def write_typed_log(
    path: Path, sessions: int, items: int, successors: int = 1, seed: int = 1
) -> Path:
    """Write the log as CSV and return its path."""
    random, names = np.random.default_rng(seed), list(SHARES)
    lines = []
    for session in range(sessions):
        item = int(random.integers(items))
        for at in range(int(random.integers(SHORTEST, LONGEST + 1))):
            number = int(random.choice(len(names), p=list(SHARES.values())))
            lines.append(f"{session},{item},{100 * session + at},{names[number]}\n")
            after = item + number * items // len(names) + int(random.integers(successors)) + 1
            follows = random.random() < FOLLOWED
            item = after % items if follows else int(random.integers(items))
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path
