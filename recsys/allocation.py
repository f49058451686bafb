"""Memory that is freed stays with the process, so that the next large tensor need not fault it in.

glibc hands every block above 128 KB back to the kernel and asks for zeroed pages again: with score
matrices of megabytes at every step that cost a quarter of all CPU time of a training run.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_NEVER_BYTES = 2**31 - 1


def give_back_freed_memory() -> bool:
    """Give the kernel what is free by now, once; returns whether anything was. Elsewhere nothing.

    After something large was loaded: what loading took beside it would stay for good.
    """
    return _glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def keep_freed_memory() -> bool:
    """Tell glibc so; returns whether it listened. Elsewhere nothing happens."""
    if not _glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _NEVER_BYTES)) and bool(
        mallopt(_TRIM_THRESHOLD, _NEVER_BYTES)
    )


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
