"""Files that are replaced whole: readers see the old content or the new, and a crash leaves one of the two."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from bikeflow.runtime.files import flush

TEMPORARY_SUFFIX = ".part"


class FileWriter:
    """Writes and removes files below `root`, durably; safe to use from several threads.

    A write goes to a hidden temporary file in the same directory, fsync, rename, fsync of the directory. What a crash
    left of an earlier write goes when its directory is first written to again.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._token = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._opened_at = time.time()
        self._stamp = 0
        self._cleaned: set[Path] = set()
        # Making a directory and opening a file in it must not be torn apart by the removal of an empty directory.
        self._tree = threading.Lock()

    def write(self, path: Path, data: bytes, *, only_new: bool = False) -> os.stat_result:
        """Create or replace a file, making directories as needed; what `stat` says of it then. Raises OSError.

        With `only_new` it raises FileExistsError rather than replace one.
        """
        with self._tree:
            self._make_directory(path.parent)
            temporary = path.parent / f".{self._token}-{next(self._numbers)}{TEMPORARY_SUFFIX}"
            file = temporary.open("xb")
            stamp = self._stamp = max(time.time_ns(), self._stamp + 1)
        try:
            with file:
                file.write(data)
                file.flush()
                # The kernel's own timestamps tick every few milliseconds: too coarse to tell two writes apart by.
                os.utime(file.fileno(), ns=(stamp, stamp))
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            if only_new:
                _become_new(temporary, path)
            else:
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush(path.parent)
        return status

    def remove(self, path: Path) -> None:
        """Remove a file, and the directories below `root` that are empty without it. Raises OSError."""
        path.unlink()
        directory = path.parent
        with self._tree, suppress(OSError):  # the first that is not empty ends it
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent
        flush(directory)

    def _make_directory(self, directory: Path) -> None:
        missing = [parent for parent in (directory, *directory.parents) if not parent.is_dir()]
        for parent in reversed(missing):
            try:
                parent.mkdir(exist_ok=True)
            except FileExistsError as error:  # a file stands there: that is no sign of the file to be written
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent)) from error
            flush(parent.parent)
        if directory not in self._cleaned:
            self._remove_leftovers(directory)
            self._cleaned.add(directory)

    def _remove_leftovers(self, directory: Path) -> None:
        for path in directory.glob(f".*{TEMPORARY_SUFFIX}"):
            # Younger ones may be the work of another process; if a clock misleads us, its write fails and is retried.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < self._opened_at:
                    path.unlink()


def _become_new(temporary: Path, path: Path) -> None:
    """Rename, but raise FileExistsError rather than replace a file."""
    try:
        path.hardlink_to(temporary)
        temporary.unlink()
    except OSError:  # there is one; or no hard links here: then the next best is to look first
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)
