"""What keeps a process of many threads and large tables small: the allocators give back what is free."""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_ARENA_MAX = -8
_ARENAS = 2
_LIBC = ctypes.CDLL(None)


def economise() -> None:
    """Settle the allocators; to be called before pyarrow is imported and before threads are started.

    glibc gives each thread that finds the others busy an arena of its own and never takes it away: with some ten
    threads that parse in turn, hundreds of megabytes are free but not given back. Arrow's default pool keeps its own
    share too. Whoever sets the allocators' own environment variables is asked first.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError):  # another C library than glibc
            _LIBC.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return free memory to the system; takes some milliseconds, in which other threads may wait for memory."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        _LIBC.malloc_trim(0)
