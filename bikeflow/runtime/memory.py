"""How much memory there is, and what keeps a process of many threads and large tables small."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

_M_ARENA_MAX = -8
_ARENAS = 2
_LIBC = ctypes.CDLL(None)
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def configure_allocators() -> None:
    """Keep the allocators from hoarding; call this before pyarrow is imported and before threads are started.

    glibc gives each thread that finds the others busy an arena of its own and never takes it away: with some ten
    threads that parse in turn, hundreds of megabytes are free but not given back. Arrow's default pool keeps its own
    share too. The allocators' own environment variables take precedence.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError):  # another C library than glibc
            _LIBC.mallopt(_M_ARENA_MAX, _ARENAS)


@contextlib.contextmanager
def freeze_gc() -> Iterator[None]:
    """Exempt what is created within the context, such as imported modules, from garbage collection for good.

    Collecting while the modules load takes a fifth of the time that the imports take. Later, every full collection
    would go through them and stop all threads, the event loop's too, for more than 50 ms.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def give_back() -> None:
    """Return free memory to the system; takes some milliseconds, in which other threads may wait for memory."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        _LIBC.malloc_trim(0)


def memory_bytes(limit: str) -> int:
    """An amount such as "512MB" or "2GiB" in bytes; "auto" is half of what this process may use at all."""
    if limit == "auto":
        return available_bytes() // 2
    match = re.fullmatch(r"([\d.]+)\s*([KMGT]i?)B", limit)
    if match is None:
        raise ValueError(f"{limit} is no amount of memory")
    return int(float(match[1]) * _UNITS[match[2]])


def available_bytes(groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> int:
    """The machine's memory, or what a container or service unit is allowed of it, by control groups of version 1 or 2.

    `own_group` has a line `<number>:<controllers>:<path>` for each hierarchy that the process is in.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError):
        for line in own_group.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = groups / "memory" if controllers else groups
            own = top / path.lstrip("/")
            # A container may see its path on the host, and its own group at the top.
            for group in (own, *(parent for parent in own.parents if parent.is_relative_to(top))):
                for name in ("memory.limit_in_bytes",) if controllers else ("memory.max", "memory.high"):
                    with contextlib.suppress(OSError, ValueError):  # one without a limit says "max", the root nothing
                        total = min(total, int((group / name).read_text()))
    return total
