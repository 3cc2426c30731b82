"""The nouns of the pipeline, as frozen values, and the events that roles emit.

Datetimes are UTC-aware; sizes are bytes; durations are seconds.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

UTC = dt.UTC

StoreOperation = Literal["list", "get", "put", "delete", "head"]
StoreOutcome = Literal["ok", "not_found", "transient", "permanent"]
ExportTarget = Literal["s3", "postgres"]
Outcome = Literal["stored", "duplicate", "not_modified", "failed", "not_a_feed", "lost", "skipped_open_circuit"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about one object; `etag` changes whenever the content does."""

    key: str
    size: int
    etag: str
    last_modified: dt.datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's content together with what the store told of it in the same answer."""

    info: ObjectInfo
    data: bytes


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One UTC day of one bike-share system."""

    system_id: str
    day: dt.date

    def __str__(self) -> str:
        return f"{self.system_id} {self.day}"


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A span of one partition whose rows lie in one Parquet file a layer.

    `start` and `end` are the first and last whole second that it covers, inclusive. The segment that covers the whole
    day is the *sealed* one.
    """

    partition: Partition
    start: dt.time
    end: dt.time

    @property
    def sealed(self) -> bool:
        """True for the one segment that covers its whole day."""
        return self.start == dt.time(0) and self.end == dt.time(23, 59, 59)


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file of the lake: `time` is the one in its name, else the object's LastModified."""

    key: str
    partition: Partition
    time: dt.datetime
    size: int
    etag: str
    last_modified: dt.datetime


@dataclass(frozen=True, slots=True)
class SegmentObject:
    """The enhanced Parquet file of one segment as it now stands in the store."""

    segment: Segment
    key: str
    etag: str
    size: int

    @property
    def partition(self) -> Partition:
        """The partition that the segment is a part of."""
        return self.segment.partition


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is recorded of a processed raw file: its identity, and the conservation record (lines = rows + rejected).

    `recipe` tells the rules under which its rows were flagged (see `feeds.recipe`); old records have none.
    """

    key: str
    size: int
    md5: str
    lines: int
    rows: int
    rejected: int
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class SegmentWritten:
    """A segment was written; `object` is its enhanced file as it now stands in the store (None: it holds no row).

    `added` are the rows that the version with the ETag `former_etag` (None: there was none) did not have, in the
    columns of the enhanced layer, and `records` those of their raw files. `added` is None where it is unknown, or where
    rows that were there before have changed.
    """

    segment: Segment
    object: SegmentObject | None
    former_etag: str | None = None
    added: pa.Table | None = None
    records: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionJob:
    """Work for a processor: write the dirty segments of a day; `queued_at` is on the monotonic clock."""

    partition: Partition
    queued_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class FetchOutcome:
    """How one fetch ended.

    `stored` means that the new snapshot is safe on the local disk and on its way to the store, `lost` that it could not
    be kept there. `key` is the raw key (empty unless stored), `bytes` the size of the document, `attempts` the number
    of requests made. `status` is the HTTP status of the last answer, `reason` why it failed, in a word for programs.
    """

    outcome: Outcome
    trace_id: str
    key: str = ""
    bytes: int = 0
    duration_seconds: float = 0.0
    attempts: int = 0
    error: str = ""
    status: int | None = None
    reason: str = ""

    @property
    def good(self) -> bool:
        """True where the feed answered as it should."""
        return self.outcome in ("stored", "duplicate", "not_modified")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a processor over the dirty segments of a partition."""

    run_id: str
    partition: Partition
    started_at: dt.datetime
    finished_at: dt.datetime
    outcome: Literal["done", "failed"]
    segments: int
    files: int
    lines: int
    rows: int
    rejected: int
    error: str | None
    traces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something does not work: since when, why, in words for people, and in how many systems."""

    since: dt.datetime
    reason: str
    systems: int = 1


@dataclass(frozen=True, slots=True)
class LaneVitals:
    """How one system's roles are doing at one moment; a fault is None while its role works.

    `feed` is the download, `delivery` the way from the spool to the store, `watcher` the look at the store.
    `spool_oldest_seconds`: for how long the oldest of the waiting snapshots waits. `clock`: snapshots get wrong times.
    `unspooled`: the local disk takes no snapshots, and `memory_snapshots` of those that wait are in memory alone.
    `queue_full`: the system's room in the queue is full, which holds its watcher back. `missing`: so many raw files are
    missing from the store, and what was made of them is kept.
    """

    feed: Fault | None
    delivery: Fault | None
    watcher: Fault | None
    polled_at: dt.datetime | None
    spool_snapshots: int
    spool_bytes: int
    queue_full: bool = False
    spool_oldest_seconds: float = 0.0
    clock: Fault | None = None
    unspooled: Fault | None = None
    memory_snapshots: int = 0
    missing: Fault | None = None
    missing_files: int = 0


@dataclass(frozen=True, slots=True)
class Vitals:
    """How all roles are doing at one moment: those of each system by its id, and those that all systems share."""

    lanes: Mapping[str, LaneVitals]
    refresher: Fault | None
    queue_waiting: int
    queue_in_flight: int
    queue_stalled_seconds: float

    @property
    def spool_snapshots(self) -> int:
        """Snapshots of all systems that wait for the store."""
        return sum(lane.spool_snapshots for lane in self.lanes.values())

    @property
    def spool_bytes(self) -> int:
        """Their size altogether."""
        return sum(lane.spool_bytes for lane in self.lanes.values())


@dataclass(frozen=True, slots=True)
class Pulse:
    """How far a role has come: `steps` only grows, by one for whatever it has brought to an end, well or not.

    `idle` while the role has nothing to do and no step is to be expected of it.
    """

    steps: int
    idle: bool = False


@dataclass(frozen=True, slots=True)
class FetchFinished:
    """A fetch has ended, well or not."""

    system_id: str
    at: dt.datetime
    outcome: FetchOutcome


@dataclass(frozen=True, slots=True)
class SnapshotStored:
    """A new snapshot is confirmed by the store; the watcher is woken with it."""

    system_id: str
    info: ObjectInfo
    trace_id: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run has ended, well or not, after its job had waited in the queue; counts are of lines by check, by flag.

    `written` are the segments that it has written: the refresher listens for them.
    """

    run: Run
    waited_seconds: float
    rejected_by_check: Mapping[str, int]
    flagged_by_flag: Mapping[str, int]
    written: tuple[SegmentWritten, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchState:
    """The last snapshot that was taken over from a feed, as its fetcher remembers it across restarts.

    `sha256` is the format's fingerprint of what is stored under `key`. `validators` are the headers ETag and
    Last-Modified that each of its documents came with, by the SHA-256 of its URL (empty where it had none).
    """

    sha256: str
    key: str
    fetched_at: dt.datetime
    validators: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LakeReconciled:
    """The ledger agrees with a system's whole lake again.

    Counts: raw files in all, new or changed ones, vanished ones; objects that are not ours (`foreign`); segments that
    the ledger has `adopted`, and those that were `lost`.
    """

    system_id: str
    raw_files: int
    changed: int
    vanished: int
    foreign: int
    adopted: int
    lost: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Publication:
    """What the analytics database holds, of all systems together; `newest_snapshot` is None in an empty lake.

    Stations and free bikes are those of the newest snapshots, inside the service area unless the name says otherwise.
    `future_snapshots` are dated in the future, and count once their time has come.
    """

    at: dt.datetime
    newest_snapshot: dt.datetime | None
    size_bytes: int
    segments: int
    rows: int
    stations: int
    bikes: int
    future_snapshots: int = 0
    stations_outside: int = 0
    stations_empty: int = 0
    stations_full: int = 0
    bikes_outside: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePublished(Publication):
    """The analytics database was replaced; `traces` are those of the snapshots that it shows for the first time."""

    traces: tuple[str, ...]
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class SchemaDrifted:
    """A raw file had unknown columns."""

    system_id: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DocumentsDropped:
    """So many unusable documents of a feed could not be kept, or were kept for long enough."""

    system_id: str
    count: int


@dataclass(frozen=True, slots=True)
class AlertSent:
    """A message to people was sent; `arrived` tells whether any of their channels took it."""

    arrived: bool


@dataclass(frozen=True, slots=True)
class SettingsReloaded:
    """The service was asked to reload its settings; `applied` tells whether it took them."""

    at: dt.datetime
    applied: bool


@dataclass(frozen=True, slots=True)
class ExportFinished:
    """What was published has been taken to one more place, or could not be; `skipped_rows` can't be held there."""

    target: ExportTarget
    outcome: Literal["done", "failed"]
    duration_seconds: float
    error: str | None = None
    skipped_rows: int = 0


@dataclass(frozen=True, slots=True)
class StoreAnswered:
    """One request to the store has ended."""

    operation: StoreOperation
    outcome: StoreOutcome


Event = (
    FetchFinished
    | SnapshotStored
    | LakeReconciled
    | RunFinished
    | DatabasePublished
    | SchemaDrifted
    | DocumentsDropped
    | AlertSent
    | SettingsReloaded
    | ExportFinished
    | StoreAnswered
)
"""All events that roles emit."""
