"""Takes a directory away from a service at work and gives it back, each in one step.

With two steps, a file that the service writes in between makes the directory anew.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE, _EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def a_file_in_place_of(directory: Path) -> Iterator[None]:
    """Meanwhile there is a file where the directory was; Linux only."""
    file = directory.with_name(f".{directory.name}.away")
    file.touch()
    _exchange(directory, file)
    try:
        yield
    finally:
        _exchange(directory, file)
        file.unlink()


def _exchange(one: Path, other: Path) -> None:
    if _libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(one))
