"""8-bit codes find the items with the largest products."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.retrieval import int8
from recsys.retrieval.candidates import with_bias

SEARCH_IN_A_THREAD = """
import os
import threading
import numpy as np
import torch
from recsys.retrieval.int8 import Int8Codes

torch.set_num_threads(1)
vectors = np.random.default_rng(0).standard_normal((50_000, 112), dtype=np.float32)
codes = Int8Codes.of(torch.from_numpy(vectors[:, :111].copy()), torch.zeros(50_000), 1.0)
threads = []

def search():
    codes.search(vectors[:8], 20)
    threads.append(len(os.listdir("/proc/self/task")))

before = len(os.listdir("/proc/self/task"))
worker = threading.Thread(target=search)
worker.start()
worker.join()
print(threads[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_search_in_a_thread_uses_as_many_threads_as_torch_is_set_to() -> None:
    command = [sys.executable, "-c", SEARCH_IN_A_THREAD]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)

    assert ran.stdout.strip() == "1"  # the thread itself


@pytest.mark.parametrize("items", [64, 200, 207, 300])
def test_codes_in_several_blocks_find_the_best(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes give whole blocks, a shorter last block, and a few items without a group."""
    monkeypatch.setattr(int8, "BLOCK", 64)
    random = np.random.default_rng(items)
    stored = random.standard_normal((items, 15), dtype=np.float32)
    bias = random.standard_normal(items, dtype=np.float32)
    queries = random.standard_normal((5, 15), dtype=np.float32)
    codes = int8.Int8Codes.of(torch.from_numpy(stored), torch.from_numpy(bias), 2.0)
    wide = with_bias(queries, 2.0)

    candidates = codes.search(wide, 20)

    for query, row in zip(queries, candidates, strict=True):
        assert len(set(row.tolist())) == len(row)
        assert set(np.argsort(-(stored @ query + bias))[:5].tolist()) <= set(row.tolist())


@pytest.mark.parametrize("items", [64, 207])
def test_the_best_codes_are_those_of_the_largest_products(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of codes made from some of the items only, too, in blocks or at once."""
    random = np.random.default_rng(items)
    matrix = torch.from_numpy(random.standard_normal((300, 15), dtype=np.float32))
    some = np.sort(random.permutation(300)[:items])
    queries = with_bias(random.standard_normal((4, 15), dtype=np.float32), 1.0)
    at_once = int8.Int8Codes.of(matrix, torch.zeros(300), 1.0, some)
    monkeypatch.setattr(int8, "BLOCK", 64)

    codes = int8.Int8Codes.of(matrix, torch.zeros(300), 1.0, some)

    best = codes.best(queries, 10)
    assert np.array_equal(best, at_once.best(queries, 10))
    assert np.array_equal(best, np.sort(best, axis=1))
    assert np.array_equal(codes.best(queries, items), np.tile(np.arange(items), (4, 1)))
    for query, row in zip(queries, best, strict=True):
        exact = np.argsort(-(with_bias(matrix.numpy()[some], 0.0) @ query))
        assert set(exact[:5].tolist()) <= set(row.tolist())
        left = codes.only(row).best(query[None], 10)
        assert np.array_equal(left[0], np.arange(10)), "some codes are codes, too"


@pytest.mark.parametrize("rows", [1, 4, 33])
@pytest.mark.parametrize("fast", [True, False])
def test_the_product_of_codes_is_exact(
    rows: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's private function, which must still be there, and without it."""
    assert hasattr(torch, "_int_mm"), "torch has no _int_mm: measure and name another way"
    monkeypatch.setattr(int8, "SLOW_INT_MM", ())
    if not fast:
        monkeypatch.setattr(int8, "int8_matmul", None)
    random = np.random.default_rng(rows)
    queries, codes = (random.integers(-127, 128, (n, 136), dtype=np.int8) for n in (rows, 200))
    queries[0], codes[0] = 127, -127  # the largest possible sum
    out = torch.empty((rows, 200), dtype=torch.int32)

    int8.int8_product(torch.from_numpy(queries), torch.from_numpy(codes).t(), out)

    assert np.array_equal(out.numpy(), queries.astype(np.int32) @ codes.T.astype(np.int32))
