"""Settings of the memory allocator: keep freed memory in the process.

By default glibc returns every block above 128 KB to the kernel and requests zeroed pages again.
Training allocates score matrices of megabytes at every step, and spent a quarter of its CPU time on
that.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_NEVER_BYTES = 2**31 - 1


def give_back_freed_memory() -> bool:
    """Return the free memory of this process to the kernel, once.

    Call it after a large file was loaded, else the memory that loading needed stays allocated.

    Returns:
        Whether there was any; False without glibc.
    """
    return _glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory, and return whether it does; False without glibc."""
    if not _glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _NEVER_BYTES)) and bool(
        mallopt(_TRIM_THRESHOLD, _NEVER_BYTES)
    )


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
