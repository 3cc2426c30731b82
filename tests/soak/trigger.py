"""Signals a process at the very moment in which it touches a file: inotify tells of each write, rename and removal."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import struct
import threading
from pathlib import Path

_CLOSE_ON_EXEC, _NON_BLOCKING = 0o2000000, 0o4000
_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x80, 0x100, 0x200
_IS_DIRECTORY = 0x40000000
_EVENT = struct.Struct("iIII")
_LOOK_SECONDS = 0.1
_libc = ctypes.CDLL(None, use_errno=True)
Target = tuple[int, signal.Signals]
"""The process and what it is sent."""


class Trigger:
    """Watches all that happens to the files below `root`; Linux only."""

    def __init__(self, root: Path) -> None:
        self._descriptor = _libc.inotify_init1(_CLOSE_ON_EXEC | _NON_BLOCKING)
        self._directories: dict[int, Path] = {}
        self._root = root
        self._watch(root)

    def close(self) -> None:
        """End watching."""
        os.close(self._descriptor)

    def hit(self, process: Target, place: re.Pattern[str], count: int, over: threading.Event) -> str:
        """Wait for so many touches of files whose path (below the root) matches, then signal; returns the last's path.

        Signals when it is over as well, and then returns an empty path. Blocks.
        """
        while not over.is_set():
            if not select.select([self._descriptor], [], [], _LOOK_SECONDS)[0]:
                continue
            for path in self._read():
                count -= place.search(path) is not None
                if count <= 0:
                    os.kill(*process)
                    return path
        os.kill(*process)
        return ""

    def _watch(self, directory: Path) -> None:
        mask = _MODIFY | _CLOSE_WRITE | _MOVED_TO | _CREATE | _DELETE
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        if watch < 0:  # it is gone already
            return
        self._directories[watch] = directory
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                self._watch(Path(entry))

    def _read(self) -> list[str]:
        """The paths of all touches since the last call."""
        try:
            data = os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return []
        paths, offset = [], 0
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            name = os.fsdecode(data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0"))
            offset += _EVENT.size + length
            directory = self._directories.get(watch)
            if directory is None or not name:
                continue
            path = directory / name
            if mask & _IS_DIRECTORY and mask & _CREATE:
                self._watch(path)
            paths.append(path.relative_to(self._root).as_posix())
        return paths
