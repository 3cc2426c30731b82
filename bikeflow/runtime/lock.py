"""One bikeflow process on one `data_dir`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bikeflow.core.errors import ConfigError, InUse

FILE_NAME = "bikeflow.lock"
DEMO_MARK = ".bikeflow-demo"
"""Marks a `data_dir` as a demo's: the next demo deletes all that lies there."""


@contextlib.contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir`, which is made where it is missing; raises `InUse` with the process id of who holds it.

    The kernel lets go of the lock when the process ends, however it ends.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"data_dir {data_dir}: {error.strerror}; bikeflow must be able to write there") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise InUse(f"another bikeflow (process {holder}) works on {data_dir}; stop it first") from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds without telling by whom
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def refuse_demo(data_dir: Path) -> None:
    """Raise ConfigError where `data_dir` is a demo's: the next demo would delete real snapshots with the simulated."""
    mark = data_dir / DEMO_MARK
    if mark.exists():
        raise ConfigError(
            f"{data_dir} belongs to a demo, and the next demo deletes it; name another directory with --data-dir\n"
            f"to keep the simulated data and add real data to it, delete {mark} first"
        )


def held_by(process_id: int) -> Path | None:
    """The `data_dir` that this process holds, as the kernel tells those who may know, or None."""
    try:
        files = [link.readlink() for link in Path(f"/proc/{process_id}/fd").iterdir()]
    except OSError:
        return None
    return next((file.parent for file in files if file.name == FILE_NAME), None)


def holder(data_dir: Path) -> int | None:
    """The id of the process that holds `data_dir`, or None if it is free. Creates nothing."""
    try:
        descriptor = os.open(data_dir / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
