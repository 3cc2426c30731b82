"""File descriptors: raise the limit, and keep some spare, as without any the service can neither fetch nor store."""

from __future__ import annotations

import contextlib
import os
import resource

ENOUGH = 65_536
SPARE = 8


def raise_limit() -> None:
    """Let the process have more file descriptors than the usual 1,024, where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def need_spare(count: int = SPARE) -> None:
    """Raise OSError (EMFILE) where fewer file descriptors than these can be had: for what would not survive that."""
    found: list[int] = []
    try:
        found.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(count))
    finally:
        for descriptor in found:
            os.close(descriptor)
