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

from bikeflow.concurrency import bounded_map
from bikeflow.log import get_logger
from bikeflow.model import SegmentObject
from bikeflow.warehouse.files import disk_errors, hidden, remove
from bikeflow.warehouse.parquet import swept, write_empty
from bikeflow.warehouse.sources import Lake, fetch

RETAINED_SECONDS = 86_400
RETAINED_BYTES = 256 * 1024 * 1024
"""How long files that the published database no longer names stay, and how much of them: the oldest go first."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_EMPTY = "dt=0001-01-01/empty.parquet"
_PARALLEL_FETCHES = 4
log = get_logger()


@dataclass(frozen=True, slots=True)
class MirrorChange:
    """What one `sync` did: files fetched, their bytes, and wanted files that the store does not hold now."""

    fetched: int
    fetched_bytes: int
    unavailable: int


class Mirror:
    """The files below `data_dir`/mirror/enhanced, kept as `dt=YYYY-MM-DD/<segment>.<version>.parquet`."""

    def __init__(self, lake: Lake, data_dir: Path) -> None:
        self.root = mirror_root(data_dir)
        self._lake = lake
        self._current: dict[str, Path] = {}
        self._paths: dict[SegmentObject, tuple[str, Path]] = {}
        self._sizes: dict[Path, int] = {}
        self._named: set[Path] = set()
        self._retired: dict[Path, float] = {}
        self._retired_bytes = 0
        self._discarded: Counter[Path] = Counter()
        self._verified = False
        self._digests: dict[Path, str] = {}
        self._unchecked: set[Path] = set()
        self._checked: set[Path] = set()

    @property
    def files(self) -> Mapping[str, Path]:
        """The file of each wanted segment, by the segment's name, `dt=YYYY-MM-DD/<segment>`."""
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
            self._paths = {segment: self._paths.get(segment) or self._path(segment) for segment in wanted}
            segments = {name: segment for segment, (name, _) in self._paths.items()}
            paths = dict(self._paths.values())
            absent = [
                name
                for name, path in paths.items()
                if self._sizes.get(path) != segments[name].size and self._discarded[path] < 2
            ]
            found = await bounded_map(lambda name: self._fetch(segments[name], paths[name]), absent, _PARALLEL_FETCHES)
        present = {name: path for name, path in paths.items() if self._sizes.get(path) == segments[name].size}
        kept = {name: path for name, path in self._current.items() if name in segments and path in self._sizes}
        self._current = kept | present
        self._digests = {paths[name]: item.etag for name, item in segments.items() if _MD5.fullmatch(item.etag)}
        self._unchecked &= self._digests.keys()
        fetched = [self._sizes[paths[name]] for name, complete in zip(absent, found, strict=True) if complete]
        return MirrorChange(len(fetched), sum(fetched), len(absent) - len(fetched))

    def path_of(self, segment: SegmentObject) -> Path:
        """Where this version of the segment's file lies, or would."""
        return self._path(segment)[1]

    @property
    def is_checked(self) -> bool:
        """Whether the content of all files that an earlier process has left was compared with its digest."""
        return not self._unchecked

    async def check_next(self) -> str | None:
        """Compare one more of them; gives the name of its segment where the file is damaged, and was removed.

        Where the store's ETag is no MD5 there is nothing to compare with; those of a local lake are its own files.
        """
        path = self._unchecked.pop()
        self._checked.add(path)
        with disk_errors():
            if await asyncio.to_thread(_md5_of, path) in (self._digests[path], None):
                return None
            log.warning("mirrored_file_damaged", path=str(path))
            await asyncio.to_thread(self._unlink, path)
        return next((name for name, current in self._current.items() if current == path), None)

    async def prune(self) -> None:
        """Let go of what the database that is published by now does not name; the files stay for a while."""
        with disk_errors():
            await asyncio.to_thread(self._prune)

    async def discard(self, names: Iterable[str]) -> None:
        """Give up files that turned out to be damaged: the next `sync` fetches them again, but once only."""
        with disk_errors():
            for path in [self._current.pop(name) for name in names]:
                self._discarded[path] += 1
                await asyncio.to_thread(self._unlink, path)

    def distrust(self) -> None:
        """Let the next `sync` look at every file again: somebody may have tampered with them."""
        self._verified = False

    async def _fetch(self, segment: SegmentObject, path: Path) -> bool:
        part = hidden(path)
        await asyncio.to_thread(part.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(remove, part)
        found = await fetch(self._lake, segment, part)
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

    def _path(self, segment: SegmentObject) -> tuple[str, Path]:
        name = _name(segment)
        return name, self.root / f"{name}.{_version(segment)}.parquet"


def mirrored_file(data_dir: Path, segment: SegmentObject) -> Path:
    """Where the copy of this version of a segment's file lies, if it was fetched."""
    return mirror_root(data_dir) / f"{_name(segment)}.{_version(segment)}.parquet"


def mirror_root(data_dir: Path) -> Path:
    """Where the mirror lies."""
    return data_dir.absolute() / "mirror" / "enhanced"


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


def _version(segment: SegmentObject) -> str:
    return hashlib.sha256(segment.etag.encode()).hexdigest()[:12]


def _name(segment: SegmentObject) -> str:
    return f"dt={segment.partition}/{segment.key.rpartition('/')[2].removesuffix('.parquet')}"
