"""The local copy of the enhanced layer: every current segment file, each version under a name of its own.

The lake's folders may hold files of a predecessor, and change at any time. DuckDB reads a file's footer and its data
through two separate openings, so that a reader who meets a replacement between the two fails, or reads nonsense. A
mirrored file therefore never changes: a new version is a new file, the published database names the files that it
stands for, and what it no longer names stays for the readers who still have an earlier publication open.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bikeflow.core.model import Segment, SegmentObject
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.runtime.files import disk_errors, hidden, remove, write_whole
from bikeflow.runtime.log import get_logger
from bikeflow.store.base import Store
from bikeflow.warehouse.parquet import swept, write_empty
from bikeflow.warehouse.sources import fetch, link_or_copy

RETAINED_SECONDS = 86_400
RETAINED_BYTES = 256 * 1024 * 1024
"""How long files that the published database no longer names stay, and how much of them: the oldest go first."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_EMPTY = "system_id=-/dt=0001-01-01/empty.parquet"
_PARALLEL_FETCHES = 4
log = get_logger()


@dataclass(frozen=True, slots=True)
class MirrorChange:
    """What one `sync` did: files fetched, their bytes, and wanted files that the store does not hold now."""

    fetched: int
    fetched_bytes: int
    unavailable: int


class Mirror:
    """The files below `data_dir`/mirror/enhanced: `system_id=<id>/dt=YYYY-MM-DD/<segment>.<version>.parquet`."""

    def __init__(self, store: Store, data_dir: Path, first_system: str = "wrm") -> None:
        self.root = mirror_root(data_dir)
        self._first_system = first_system
        self._store = store
        self._current: dict[Segment, Path] = {}
        self._paths: dict[SegmentObject, Path] = {}
        self._sizes: dict[Path, int] = {}
        self._named: set[Path] = set()
        self._retired: dict[Path, float] = {}
        self._retired_bytes = 0
        self._discarded: Counter[Path] = Counter()
        self._verified = False
        self._adopted_at: float | None = None
        self._digests: dict[Path, str] = {}
        self._unchecked: set[Path] = set()
        self._checked: set[Path] = set()

    @property
    def files(self) -> Mapping[Segment, Path]:
        """The file of each wanted segment."""
        return MappingProxyType(self._current)

    async def sync(self, wanted: Iterable[SegmentObject]) -> MirrorChange:
        """Make `files` the segments in `wanted`; only versions that are not there yet are fetched.

        Where the store does not hold the version now, the segment keeps its former file: the ledger will learn of it.
        Raises Transient where the store or the disk fails; what was fetched until then need not be fetched again.
        """
        with disk_errors():
            if not self._verified:
                await asyncio.to_thread(self._verify)
            # taken over for all that did not change: composing thousands of paths each time would cost more than all
            self._paths = {item: self._paths.get(item) or self._path(item) for item in wanted}
            absent = [item for item, path in self._paths.items() if self._lacks(item, path)]
            found = await bounded_map(lambda item: self._fetch(item, self._paths[item]), absent, _PARALLEL_FETCHES)
        segments = {item.segment for item in self._paths}
        present = {item.segment: path for item, path in self._paths.items() if self._sizes.get(path) == item.size}
        kept = {segment: path for segment, path in self._current.items() if segment in segments and path in self._sizes}
        self._current = kept | present
        self._digests = {path: item.etag for item, path in self._paths.items() if _MD5.fullmatch(item.etag)}
        self._unchecked &= self._digests.keys()
        fetched = [item.size for item, complete in zip(absent, found, strict=True) if complete]
        return MirrorChange(len(fetched), sum(fetched), len(absent) - len(fetched))

    def place(self, item: SegmentObject, data: bytes, *, stored: bool = True) -> None:
        """Keep a file that was just built, so that it need not be fetched back; called from any thread.

        One that is `stored` in a local lake need not be kept. A disk that fails is no reason to fail: `sync` will fetch
        the file, or keep the one before.
        """
        path = self._path(item)
        if (stored and self._store.local_path(item.key) is not None) or not self._verified:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, durable=stored)
        except OSError as error:
            log.debug("file_not_placed", path=str(path), error=error.strerror)
            return
        self._sizes[path] = item.size
        self._checked.add(path)

    @property
    def is_checked(self) -> bool:
        """Whether the content of all files that an earlier process has left was compared with its digest."""
        return not self._unchecked

    async def check_next(self) -> Segment | None:
        """Compare one more of them; gives its segment where the file is damaged, and was removed.

        Where the store's ETag is no MD5 there is nothing to compare with; those of a local lake are its own files.
        """
        path = self._unchecked.pop()
        self._checked.add(path)
        with disk_errors():
            if await asyncio.to_thread(_md5_of, path) in (self._digests[path], None):
                return None
            log.warning("mirrored_file_damaged", path=str(path))
            await asyncio.to_thread(self._unlink, path)
        return next((segment for segment, current in self._current.items() if current == path), None)

    async def prune(self) -> None:
        """Let go of what the database that is published by now does not name; the files stay for a while."""
        with disk_errors():
            await asyncio.to_thread(self._prune)

    async def discard(self, segments: Iterable[Segment]) -> None:
        """Give up files that turned out to be damaged: the next `sync` fetches them again, but once only."""
        with disk_errors():
            for path in [self._current.pop(segment) for segment in segments]:
                self._discarded[path] += 1
                await asyncio.to_thread(self._unlink, path)

    def distrust(self) -> None:
        """Let the next `sync` look at every file again: somebody may have tampered with them."""
        self._verified = False

    async def _fetch(self, segment: SegmentObject, path: Path) -> bool:
        part = hidden(path)
        await asyncio.to_thread(part.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(remove, part)
        found = await fetch(self._store, segment, part)
        if found is not None:
            # mostly a segment that is just being written or sealed: nothing to worry about unless it stays so
            log.info("segment_unavailable", key=segment.key, found=found)
            await asyncio.to_thread(remove, part)
            return False
        await asyncio.to_thread(part.replace, path)
        self._sizes[path] = segment.size
        self._checked.add(path)  # the store's client has
        return True

    def _verify(self) -> None:
        """Learn what is there; what is no whole file is removed, be it the trace of a crash or damage."""
        if _adopt_old_folders(self.root, self._first_system) and self._adopted_at is None:
            self._adopted_at = time.monotonic()
        write_empty(empty_file(self.root))
        self._sizes = {self.root / name: size for name, size in swept(self.root).items()}
        del self._sizes[empty_file(self.root)]
        self._retired = {path: since for path, since in self._retired.items() if path in self._sizes}
        self._retired_bytes = sum(self._sizes[path] for path in self._retired)
        self._named = self._sizes.keys() - self._retired.keys()
        self._unchecked = self._sizes.keys() - self._checked
        self._verified = True

    def _prune(self) -> None:
        now = time.monotonic()
        self._retire(now)
        if self._adopted_at is not None and now - self._adopted_at > RETAINED_SECONDS:
            for folder in _old_folders(self.root):
                remove(folder)
            self._adopted_at = None
        while self._retired:
            path, since = next(iter(self._retired.items()))
            if now - since <= RETAINED_SECONDS and self._retired_bytes <= RETAINED_BYTES:
                break
            self._unlink(path)

    def _retire(self, now: float) -> None:
        """Take note of what is no longer named, in this order: looking at all that lies there would take longer."""
        named = set(self._current.values())
        for path in named - self._named:
            self._reinstate(path)
        for path in sorted(self._named - named):
            if path in self._sizes:
                self._retired[path] = now
                self._retired_bytes += self._sizes[path]
        self._named = named

    def _reinstate(self, path: Path) -> None:
        if self._retired.pop(path, None) is not None:
            self._retired_bytes -= self._sizes[path]

    def _unlink(self, path: Path) -> None:
        self._reinstate(path)
        path.unlink(missing_ok=True)
        self._sizes.pop(path, None)
        self._checked.discard(path)
        with contextlib.suppress(OSError):  # mostly there are other files beside it
            path.parent.rmdir()

    def _lacks(self, item: SegmentObject, path: Path) -> bool:
        return self._sizes.get(path) != item.size and self._discarded[path] < 2

    def _path(self, item: SegmentObject) -> Path:
        return self.root / version_of(item, item.etag)


def mirrored_file(data_dir: Path, item: SegmentObject) -> Path:
    """Where the copy of this version of a segment's file lies, if it was fetched."""
    return mirror_root(data_dir) / version_of(item, item.etag)


def version_of(item: SegmentObject, etag: str) -> str:
    """The path below the mirror's root of the version of a segment's file that has this ETag."""
    partition, version = item.partition, hashlib.sha256(etag.encode()).hexdigest()[:12]
    file = item.key.rpartition("/")[2].removesuffix(".parquet")
    return f"system_id={partition.system_id}/dt={partition.day.isoformat()}/{file}.{version}.parquet"


def mirror_root(data_dir: Path) -> Path:
    """Where the mirror lies."""
    return data_dir.absolute() / "mirror" / "enhanced"


def _old_folders(root: Path) -> list[Path]:
    """Folders that a version without systems has left."""
    return list(root.glob("dt=*"))


def _adopt_old_folders(root: Path, system_id: str) -> bool:
    """Take over what a version without systems has left, as files of the one system that it had; False where nothing.

    It stays there as well, by hard link: the database that is still published names it.
    """
    for folder in _old_folders(root):
        for path in folder.glob("*.parquet") if folder.name != "dt=0001-01-01" else ():
            target = root / f"system_id={system_id}" / folder.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                link_or_copy(path, target)
    return bool(_old_folders(root))


def empty_file(root: Path) -> Path:
    """A file of the enhanced layer without rows: it gives the schema, also where there is no segment yet."""
    return root / _EMPTY


def _md5_of(path: Path) -> str | None:
    """The digest of a file's content, or None where it is gone."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None
