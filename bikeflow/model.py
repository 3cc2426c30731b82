"""The nouns of the pipeline, as frozen values, and the events that roles emit.

Datetimes are UTC-aware; sizes are bytes; durations are seconds.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

UTC = dt.UTC


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store tells of one object; `etag` changes whenever the content does."""

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
class Segment:
    """A span of one partition whose rows lie in one Parquet file a layer.

    `start` and `end` are the first and last whole second that it covers, inclusive. The segment that covers the whole
    day is the *sealed* one.
    """

    partition: dt.date
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
    partition: dt.date
    time: dt.datetime
    size: int
    etag: str
    last_modified: dt.datetime


@dataclass(frozen=True, slots=True)
class SegmentObject:
    """The enhanced Parquet file of one segment as it now stands in the store."""

    key: str
    partition: dt.date
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class PartitionJob:
    """Work for a processor: a day whose dirty segments are to be written."""

    partition: dt.date


@dataclass(frozen=True, slots=True)
class SnapshotStored:
    """A new snapshot is confirmed by the store; the watcher is woken with it."""

    info: ObjectInfo
    trace_id: str


@dataclass(frozen=True, slots=True)
class PartitionProcessed:
    """A run has written all dirty segments of a partition; the refresher listens for it."""

    partition: dt.date
    run_id: str
    traces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FetchState:
    """The last snapshot that was taken over from the feed, as the fetcher remembers it across restarts.

    `etag` and `last_modified` are the headers that `url` answered with (empty where it gave none); `sha256` is that of
    the UTF-8 bytes as stored under `key`.
    """

    etag: str
    last_modified: str
    sha256: str
    key: str
    fetched_at: dt.datetime
    url: str = ""


@dataclass(frozen=True, slots=True)
class DatabasePublished:
    """The analytics database was replaced; `traces` are those of the snapshots that it shows for the first time."""

    at: dt.datetime
    traces: tuple[str, ...]
