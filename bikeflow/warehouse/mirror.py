"""The local copy of the enhanced layer: exactly our current segment files, under stable names.

The lake's own folders may hold files of a predecessor, which must never be counted; the mirror never does, so that a
view over its glob is always right. Readers keep querying while it changes: a file is replaced by rename, and one that
goes becomes an empty table first, because DuckDB opens the files of a glob one by one while it scans, and a file that
is gone by then is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import MappingProxyType

from bikeflow.log import get_logger
from bikeflow.model import SegmentObject
from bikeflow.warehouse.files import disk_errors, hidden, remove
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.sources import Lake, fetch

EMPTY = "dt=0001-01-01/empty.parquet"
"""Always there, first in the glob, without rows: it gives the schema, also where there is no segment yet."""

LONGEST_QUERY_SECONDS = 900
_PARALLEL_PARTITIONS = 4
log = get_logger()


def mirror_root(data_dir: Path) -> Path:
    """Where the mirror lies."""
    return data_dir.absolute() / "mirror" / "enhanced"


@dataclass(frozen=True, slots=True)
class MirroredFile:
    """A segment's file in the mirror: which version of the object it is (`etag`), and its looks when it was placed."""

    etag: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class MirrorChange:
    """What one `sync` did: files placed (new or replaced), their bytes, files retired, wanted files not to be had."""

    placed: int = 0
    placed_bytes: int = 0
    retired: int = 0
    unavailable: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to change in one partition: a sealed file and the hourly ones that it replaces change together."""

    place: dict[str, SegmentObject] = field(default_factory=dict)
    retire: list[str] = field(default_factory=list)


class Mirror:
    """The directory `root` below `data_dir`; files are known by their names in it, `dt=YYYY-MM-DD/<name>.parquet`."""

    def __init__(self, lake: Lake, data_dir: Path) -> None:
        self.root = mirror_root(data_dir)
        self._lake = lake
        self._manifest = self.root.with_name(f"{self.root.name}.json")
        self._files: dict[str, MirroredFile] = {}
        self._retired: dict[str, float] = {}
        self._discarded: Counter[tuple[str, str]] = Counter()
        self._verified = False

    @property
    def files(self) -> Mapping[str, MirroredFile]:
        """What the mirror now holds, by name."""
        return MappingProxyType(self._files)

    async def sync(self, wanted: Iterable[SegmentObject]) -> MirrorChange:
        """Make the mirror hold exactly `wanted`; only what differs is touched.

        Where the store holds no such version of a file, the mirror's stays as it is: the ledger will learn of it.
        Raises Transient where the store or the disk fails; what could be fetched until then is in place all the same.
        """
        with disk_errors():
            if not self._verified:
                await asyncio.to_thread(self._verify)
            change = MirrorChange()
            plans = deque(
                plan for _, plan in sorted(self._plan({_name(segment): segment for segment in wanted}).items())
            )
            if plans:
                workers = [self._work(plans, change) for _ in range(_PARALLEL_PARTITIONS)]
                failures = [error for error in await asyncio.gather(*workers, return_exceptions=True) if error]
                await asyncio.to_thread(self._remember)
                if failures:
                    raise failures[0]
            await asyncio.to_thread(self._bury)
        return change

    async def discard(self, names: Iterable[str]) -> None:
        """Give up files that turned out to be damaged: the next `sync` fetches them again, but once only."""
        with disk_errors():
            for name in names:
                self._discarded[name, self._files[name].etag] += 1
                await asyncio.to_thread(self._retire, name)
            await asyncio.to_thread(self._remember)

    def distrust(self) -> None:
        """Let the next `sync` compare every file with what was placed: somebody may have tampered with them."""
        self._verified = False

    def _plan(self, wanted: Mapping[str, SegmentObject]) -> dict[str, _Plan]:
        plans: dict[str, _Plan] = defaultdict(_Plan)
        for name, segment in wanted.items():
            known = self._files.get(name)
            if (known is None or known.etag != segment.etag) and self._discarded[name, segment.etag] < 2:
                plans[_folder(name)].place[name] = segment
        for name in self._files.keys() - wanted.keys():
            plans[_folder(name)].retire.append(name)
        return plans

    async def _work(self, plans: deque[_Plan], change: MirrorChange) -> None:
        """Take partitions until none is left; fetching takes long, the swap is one go."""
        while plans:
            plan = plans.popleft()
            try:
                fetched = [name for name, segment in plan.place.items() if await self._fetch(name, segment)]
            except BaseException:
                plans.clear()  # a store that fails would only fail for the others too
                for name in plan.place:
                    remove(hidden(self.root / name))
                raise
            await asyncio.to_thread(self._swap, plan, fetched, change)

    async def _fetch(self, name: str, segment: SegmentObject) -> bool:
        part = hidden(self.root / name)
        await asyncio.to_thread(part.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(remove, part)
        found = await fetch(self._lake, segment, part)
        if found is not None:
            # mostly a segment that is just being written or sealed: nothing to worry about unless it stays so
            log.info("segment_unavailable", key=segment.key, found=found)
            await asyncio.to_thread(remove, part)
        return found is None

    def _swap(self, plan: _Plan, fetched: Sequence[str], change: MirrorChange) -> None:
        for name in fetched:
            hidden(self.root / name).replace(self.root / name)
        for name in plan.retire:
            self._retire(name)
        for name in fetched:
            status = (self.root / name).stat()
            self._files[name] = MirroredFile(plan.place[name].etag, status.st_size, status.st_mtime_ns)
            self._retired.pop(name, None)
            change.placed_bytes += status.st_size
        change.placed += len(fetched)
        change.retired += len(plan.retire)
        change.unavailable += len(plan.place) - len(fetched)

    def _retire(self, name: str) -> None:
        part = hidden(self.root / name)
        remove(part)
        part.hardlink_to(self.root / EMPTY)
        part.replace(self.root / name)
        self._files.pop(name, None)
        self._retired[name] = time.monotonic()

    def _bury(self) -> None:
        """Remove the retired files that no running query can still be about to open."""
        long_ago = time.monotonic() - LONGEST_QUERY_SECONDS
        for name in [name for name, since in self._retired.items() if since < long_ago]:
            (self.root / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other segments of the partition are still there
                (self.root / name).parent.rmdir()
            del self._retired[name]

    def _remember(self) -> None:
        part = hidden(self._manifest)
        part.write_text(json.dumps({name: astuple(file) for name, file in sorted(self._files.items())}, indent=0))
        part.replace(self._manifest)

    def _verify(self) -> None:
        """Keep what is as it was placed; everything else in the directory is retired, or no file of ours."""
        write_empty(self.root / EMPTY)
        known = self._read_manifest()
        self._files = {name: file for name, file in known.items() if _is_unchanged(self.root / name, file)}
        for path in self.root.glob("*/*"):
            name = f"{path.parent.name}/{path.name}"
            if name == EMPTY or name in self._files or name in self._retired:
                continue
            if path.suffix == ".parquet" and path.is_file() and not path.name.startswith("."):
                self._retire(name)
            else:
                remove(path)
        if lost := len(known) - len(self._files):
            log.warning("mirror_damaged", files=lost)
        self._verified = True

    def _read_manifest(self) -> dict[str, MirroredFile]:
        try:
            return {name: MirroredFile(*file) for name, file in json.loads(self._manifest.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("mirror_manifest_damaged", path=str(self._manifest), error=str(error))
            return {}


def _name(segment: SegmentObject) -> str:
    return f"dt={segment.partition:%Y-%m-%d}/{segment.key.rpartition('/')[2]}"


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _is_unchanged(path: Path, file: MirroredFile) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)
