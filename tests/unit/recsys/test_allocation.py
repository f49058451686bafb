import os
import platform
import subprocess
import sys

import pytest

from recsys.allocation import keep_freed_memory

FREED = """
import os
from recsys.allocation import give_back_freed_memory, keep_freed_memory
from tests.support.service.processes import resident

keep_freed_memory()
before = resident(os.getpid()).rss
large = bytearray(100 << 20)
del large
kept = resident(os.getpid()).rss - before
give_back_freed_memory()
left = resident(os.getpid()).rss - before
print(round(kept), round(left))
"""


def test_only_glibc_is_told_to_keep_memory() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_until_it_is_returned_to_the_kernel() -> None:
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FREED]
    ran = subprocess.run(command, env=path, stdout=subprocess.PIPE, text=True, check=True)

    kept, left = map(int, ran.stdout.split())
    assert kept >= 100
    assert left < 10
