"""Files that are replaced whole, and damaged ones that are set aside."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bikeflow.core.errors import Transient
from bikeflow.core.model import UTC


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """A full or failing disk may recover: what the system says of it becomes Transient."""
    try:
        yield
    except OSError as error:
        raise Transient(f"{error.filename or 'the disk'}: {error.strerror or error}") from error


def hidden(path: Path) -> Path:
    """The temporary file beside `path` that becomes it by a rename; no glob of ours or a reader's matches it."""
    return path.with_name(f".{path.name}.part")


def flush(path: Path) -> None:
    """Bring a file, or the entries of a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(part: Path, target: Path) -> int:
    """Rename `part` to `target` at one instant that survives a power cut; returns the size in bytes."""
    flush(part)
    size = part.stat().st_size
    part.replace(target)
    flush(target.parent)
    return size


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `*.damaged-<time>`, of which only the newest is kept; returns its new path."""
    for old in path.parent.iterdir():
        if old.name.startswith(f"{path.name}.damaged-"):
            remove(old)
    damaged = path.with_name(f"{path.name}.damaged-{dt.datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    path.rename(damaged)
    return damaged


def remove(path: Path) -> None:
    """Remove what stands at `path`, be it a file, a directory with all below it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
