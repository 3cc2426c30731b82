"""Where the mirror takes a segment's file from: the local lake by hard link, any other store by download."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from bikeflow.errors import NotFound, Transient
from bikeflow.model import SegmentObject
from bikeflow.warehouse.files import flush


class Source(Protocol):
    """Brings a segment's file to the local disk."""

    async def fetch(self, segment: SegmentObject, target: Path) -> None:
        """Make `target`, which does not exist yet, the segment's file; raises NotFound, Transient."""
        ...


class LakeSource:
    """The local lake below `root`: a hard link costs nothing, and keeps its content when the lake's file is replaced."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def fetch(self, segment: SegmentObject, target: Path) -> None:
        """Link the lake's file; copy it where the mirror lies on another file system."""
        await asyncio.to_thread(self._link, self._root / segment.key, target)

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        try:
            try:
                target.hardlink_to(source)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, no hard links here, or too many of them
                shutil.copyfile(source, target)
                flush(target)
        except FileNotFoundError:
            raise NotFound(f"{source} is gone") from None


class DownloadSource:
    """Any store, through `get`, which gives the bytes of the very version that the segment names."""

    def __init__(self, get: Callable[[SegmentObject], Awaitable[bytes]]) -> None:
        self._get = get

    async def fetch(self, segment: SegmentObject, target: Path) -> None:
        """Download the file; its size must be the one that the ledger knows."""
        data = await self._get(segment)
        if len(data) != segment.size:
            raise Transient(f"{segment.key} came with {len(data)} of {segment.size} bytes")
        await asyncio.to_thread(_write, target, data)


def _write(target: Path, data: bytes) -> None:
    with target.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
