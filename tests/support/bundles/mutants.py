"""Random damage to bundles and click files, deterministic for each number.

Bytes are flipped, cut off, removed, duplicated, overwritten with zeros or noise; values of a
manifest are replaced. Most bundles get new digests, so that the readers of the files must find the
damage.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd

from recsys.bundle.layout import GOLDEN, INDEX, ITEMS, MANIFEST, MODEL, NEIGHBOURS, WEIGHTS
from tests.support.bundles.broken_bundles import BREAKS, sign

PARTS = (MODEL, WEIGHTS, ITEMS, GOLDEN, NEIGHBOURS, INDEX, MANIFEST)
Damage = Callable[[Random, bytes], bytes]
ODD: list[Any] = [
    *(None, True, -1, 0, 1, 3, 1.5, 2**31, 2**63, 1e308, "", "7", "../x", "\x00", "ü" * 300),
    *([], [1], {}, {"a": {"b": []}}, float("nan"), float("inf"), -(10**30)),
]
CELLS: list[str] = ["", '"', "noon", "-1", "9" * 40, "1e999", "NaN", "\x00", "ü", ",", "\r", "a\nb"]


def flipped(draw: Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 30))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(draw: Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def without_a_piece(draw: Random, content: bytes) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.randint(1, 200) :]


def doubled(draw: Random, content: bytes) -> bytes:
    at, until = sorted(draw.randrange(len(content)) for _ in range(2))
    return content[:until] + content[at:]


def zeros(draw: Random, content: bytes) -> bytes:
    at, length = draw.randrange(len(content)), draw.randint(1, 400)
    return content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]


def noise(draw: Random, content: bytes) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + draw.randbytes(draw.randint(1, 100)) + content[at:]


def nothing(draw: Random, content: bytes) -> bytes:
    return b""


DAMAGES: tuple[Damage, ...] = (flipped, cut, without_a_piece, doubled, zeros, noise, nothing)


def mutant_bundle(bundle: Path, out: Path, number: int) -> str:
    """Write a damaged copy; return a description of the damage."""
    draw = Random(number)
    shutil.copytree(bundle, out)
    kind = draw.choice(("file", "file", "file", "manifest", "known"))
    if kind == "known":
        name, (damage, _) = draw.choice(list(BREAKS.items()))
        damage(out)
        return name
    if kind == "manifest":
        return _odd_manifest(draw, out)
    path = draw.choice([out / name for name in PARTS if (out / name).exists()])
    damage_bytes = draw.choice(DAMAGES)
    path.write_bytes(damage_bytes(draw, path.read_bytes()))
    signed = draw.random() < 0.75 and path.name != MANIFEST
    if signed:
        sign(out)
    return f"{path.name}: {damage_bytes.__name__}{', signed' * signed}"


def _odd_manifest(draw: Random, out: Path) -> str:
    """Replace or remove one value of the manifest, at any depth."""
    manifest = json.loads((out / MANIFEST).read_text())
    inner, way = manifest, []
    while True:
        name = draw.choice(list(inner))
        way.append(str(name))
        if isinstance(inner[name], dict) and inner[name] and draw.random() < 0.8:
            inner = inner[name]
            continue
        break
    value = draw.choice([*ODD, "gone"])
    if value == "gone":
        del inner[name]
    else:
        inner[name] = value
    (out / MANIFEST).write_text(json.dumps(manifest))
    if draw.random() < 0.5:
        with contextlib.suppress(Exception):  # the digests may be unreadable by now
            sign(out)
    return f"manifest {'.'.join(way)} = {str(value)[:30]!r}"


def click_rows(draw: Random) -> list[list[str]]:
    """Return a few sessions of a few items."""
    return [
        [f"s{row // 3}", f"i{draw.randrange(9)}", str(1767225600 + 40 * row)] for row in range(90)
    ]


def mutant_clicks(folder: Path, number: int) -> tuple[Path, str]:
    """Write a damaged click file; return its path and a description of the damage."""
    draw = Random(number)
    rows, ending = click_rows(draw), draw.choice(("csv", "csv", "tsv", "parquet"))
    done = []
    if draw.random() < 0.6:
        for _ in range(draw.choice((1, 1, 2, 40))):
            rows[draw.randrange(len(rows))][draw.randrange(3)] = draw.choice(CELLS)
        done.append("odd cells")
    path = folder / f"clicks-{number}.{ending}"
    _write(path, rows)
    if not done or draw.random() < 0.5:
        damage = draw.choice(DAMAGES)
        path.write_bytes(damage(draw, path.read_bytes()))
        done.append(damage.__name__)
    return path, f"{ending}: {', '.join(done)}"


def _write(path: Path, rows: list[list[str]]) -> None:
    head = ["session_id", "item_id", "timestamp"]
    if path.suffix == ".parquet":
        pd.DataFrame(rows, columns=head).to_parquet(path)
        return
    between = "," if path.suffix == ".csv" else "\t"
    text = "".join(between.join(row) + "\n" for row in [head, *rows])
    path.write_text(text, encoding="utf-8")
