"""8-bit codes find the items with the largest products."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.retrieval import int8

SEARCH_IN_A_THREAD = """
import os
import threading
import numpy as np
import torch
from recsys.retrieval.int8 import Int8Codes

torch.set_num_threads(1)
vectors = np.random.default_rng(0).standard_normal((50_000, 112), dtype=np.float32)
codes = Int8Codes.of(vectors)
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
    stored = random.standard_normal((items, 16), dtype=np.float32)
    queries = random.standard_normal((5, 16), dtype=np.float32)

    candidates = int8.Int8Codes.of(stored).search(queries, 20)

    for query, row in zip(queries, candidates, strict=True):
        assert len(set(row.tolist())) == len(row)
        assert set(np.argsort(-(stored @ query))[:5].tolist()) <= set(row.tolist())


@pytest.mark.parametrize("rows", [1, 4, 33])
@pytest.mark.parametrize("fast", [True, False])
def test_the_product_of_codes_is_exact(
    rows: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's private function, which must still be there, and without it."""
    assert hasattr(torch, "_int_mm"), "torch has no _int_mm: measure and name another way"
    if not fast:
        monkeypatch.setattr(int8, "_int_mm", None)
    random = np.random.default_rng(rows)
    queries, codes = (random.integers(-127, 128, (n, 136), dtype=np.int8) for n in (rows, 200))
    queries[0], codes[0] = 127, -127  # the largest possible sum
    out = torch.empty((rows, 200), dtype=torch.int32)

    int8.int8_product(torch.from_numpy(queries), torch.from_numpy(codes).t(), out)

    assert np.array_equal(out.numpy(), queries.astype(np.int32) @ codes.T.astype(np.int32))
