"""One bikeflow process on one `data_dir`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bikeflow.core.errors import ConfigError, InUse

FILE_NAME = "bikeflow.lock"
MODE = 0o640
"""Of files in `data_dir`: members of the group may read them."""
_NOT_THEIRS = 0o027
"""What is taken from the mode of files and directories: what the group could write, and all of others."""
_HELD: dict[Path, int] = {}
"""The open lock file of each `data_dir` that this process holds."""
DEMO_MARK = ".bikeflow-demo"
"""Marks a `data_dir` as a demo's: the next demo deletes all that lies there."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No link leads elsewhere, and no pipe is waited for."""


@contextlib.contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir`, which is made where it is missing; raises `InUse` with the process id of who holds it.

    The kernel lets go of the lock when the process ends, however it ends. What is written while it is held can be read
    by the owner's group at most, whatever the umask.
    """
    umask = os.umask(0o077)
    os.umask(umask | _NOT_THEIRS)
    try:
        descriptor = _opened(data_dir)
        try:
            _lock(descriptor, data_dir)
            _HELD[data_dir.absolute()] = descriptor
            yield
        finally:
            _HELD.pop(data_dir.absolute(), None)
            os.close(descriptor)
    finally:
        os.umask(umask)


def renew() -> list[Path]:
    """Hold what this process holds again, where the lock file was deleted or replaced; gives those directories.

    A tidy-up that deletes the file must not cost a service its snapshots, so it goes on with a new one. Raises `InUse`
    where another process was quicker: two at work on one directory would spoil it.
    """
    return [data_dir for data_dir, descriptor in list(_HELD.items()) if _renewed(data_dir, descriptor)]


def _renewed(data_dir: Path, descriptor: int) -> bool:
    try:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat((data_dir / FILE_NAME).lstat(), os.fstat(descriptor)):
                return False
        other = _opened(data_dir)
    except (OSError, ConfigError):  # the disk fails, or it is a file that no bikeflow works with: look again later
        return False
    try:
        _lock(other, data_dir)
        os.dup2(other, descriptor, inheritable=False)
    finally:
        os.close(other)
    return True


def _opened(data_dir: Path) -> int:
    """The lock file, made where it is missing; raises ConfigError where it is anything but a plain file of our own."""
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, MODE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise ConfigError(f"{path} is no plain file; remove it") from error
        raise ConfigError(f"data_dir {data_dir}: {error.strerror}; bikeflow must be able to write there") from error
    if problem := _problem(descriptor):
        os.close(descriptor)
        raise ConfigError(f"{path} {problem}")
    return descriptor


def _problem(descriptor: int) -> str | None:
    """Why this is no lock file of ours: writing to it could change what lies elsewhere."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return "is no plain file, or has a second name; remove it"
    if found.st_uid != os.geteuid():
        return f"belongs to another user ({found.st_uid}): run bikeflow as that one, or choose another data_dir"
    if found.st_mode & ~MODE & 0o777:  # of an earlier version
        os.fchmod(descriptor, MODE)
    return None


def _lock(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        process = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise InUse(f"another bikeflow (process {process}) works on {data_dir}; stop it first") from error
    with contextlib.suppress(OSError):  # a full disk: the lock holds without telling by whom
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


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
        descriptor = os.open(data_dir / FILE_NAME, os.O_RDONLY | _FLAGS)
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
