"""Where everything lies in the lake: object keys below the prefix, and how a day is cut into segments.

The contract's key layout in one place; nothing else composes or takes apart a key.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Literal

from bikeflow.model import UTC, ObjectInfo, RawFile, Segment

Layer = Literal["processed", "enhanced"]
LAYERS: tuple[Layer, ...] = ("processed", "enhanced")

_NAMED = re.compile(r"wrm_stations_(\d{4})-(\d{2})-(\d{2})_(\d{2})-(\d{2})-(\d{2})\.txt")
_RAW = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/([^/.][^/]*\.txt)")
_SEGMENT_NAME = re.compile(r"all_(?:processed|enhanced)_\d{8}_\d{6}\.parquet")
_PARQUET = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/all_(?:processed|enhanced)_(\d{8})_(\d{6})\.parquet")
DAY_START, DAY_END = dt.time(0), dt.time(23, 59, 59)


@dataclass(frozen=True, slots=True)
class Layout:
    """Composes and reads the lake's keys; `prefix` is empty or ends in a slash."""

    prefix: str

    @property
    def raw(self) -> str:
        """Prefix of all raw files."""
        return f"{self.prefix}raw/"

    @property
    def dead_letters(self) -> str:
        """Prefix of the dead letters of raw files (`dlq/feed/` is not below it)."""
        return f"{self.prefix}dlq/dt="

    @property
    def database(self) -> str:
        """Key of the published analytics database."""
        return f"{self.prefix}duckdb/analytics.duckdb"

    @property
    def database_files(self) -> str:
        """Prefix of the files that the published database reads in the bucket."""
        return f"{self.prefix}duckdb/files/"

    def layer(self, layer: Layer) -> str:
        """Prefix of one layer's Parquet files."""
        return f"{self.prefix}{layer}/all/"

    def raw_key(self, at: dt.datetime) -> str:
        """Key of the snapshot that was fetched at `at` (whole seconds, UTC)."""
        return f"{self.raw}dt={at.date()}/wrm_stations_{_second(at)}.txt"

    def segment_key(self, layer: Layer, segment: Segment) -> str:
        """Key of a segment's file: a pure function of the segment."""
        day = segment.partition
        compact = day.isoformat().replace("-", "")
        return f"{self.layer(layer)}dt={day}/all_{layer}_{compact}_{segment.end:%H%M%S}.parquet"

    def dead_letter_key(self, raw_key: str) -> str:
        """Key of the rejected lines of one raw file."""
        return f"{self.prefix}dlq/{raw_key.removeprefix(self.raw).removesuffix('.txt')}.jsonl"

    def raw_key_of(self, dead_letter_key: str) -> str:
        """The raw file that a dead-letter file belongs to: the inverse of `dead_letter_key`."""
        return f"{self.raw}{dead_letter_key.removeprefix(f'{self.prefix}dlq/').removesuffix('.jsonl')}.txt"

    def feed_dead_letter_key(self, at: dt.datetime) -> str:
        """Key of a download that was no feed document."""
        return f"{self.prefix}dlq/feed/dt={at.date()}/{_second(at)}.json"

    def raw_file(self, info: ObjectInfo) -> RawFile | None:
        """The raw file that an object below `raw/` is, or None for a foreign object."""
        match = _RAW.fullmatch(info.key.removeprefix(self.raw))
        partition = _date(match[1]) if match else None
        if match is None or partition is None:
            return None
        time = snapshot_time(match[2]) or info.last_modified
        return RawFile(info.key, partition, time, info.size, info.etag, info.last_modified)

    def is_segment_key(self, layer: Layer, key: str) -> bool:
        """True where a key below a layer has the form of one of our files (the footer decides whose it is)."""
        match = _PARQUET.fullmatch(key.removeprefix(self.layer(layer)))
        return match is not None and match[1].replace("-", "") == match[2] and _date(match[1]) is not None

    @staticmethod
    def is_named_like_segment(key: str) -> bool:
        """True where a key, wherever it lies, ends in the name of a segment's file."""
        return _SEGMENT_NAME.fullmatch(key.rpartition("/")[2]) is not None


def snapshot_time(name: str) -> dt.datetime | None:
    """The UTC time in a raw file's name (or key), or None where it has none."""
    match = _NAMED.fullmatch(name.rsplit("/", 1)[-1])
    if match is None:
        return None
    try:
        # strptime takes ten times as long
        year, month, day, hour, minute, second = map(int, match.groups())
        return dt.datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def segment_of(partition: dt.date, time: dt.datetime, segment_minutes: int) -> Segment:
    """The segment of `partition` that holds a raw file of `time`; times outside the day fall in its first or last."""
    midnight = dt.datetime.combine(partition, DAY_START, UTC)
    minute = min(max(int((time - midnight).total_seconds() // 60), 0), 24 * 60 - 1)
    first = minute - minute % segment_minutes
    last = min(first + segment_minutes, 24 * 60) - 1
    return Segment(partition, dt.time(first // 60, first % 60), dt.time(last // 60, last % 60, 59))


def sealed_segment(partition: dt.date) -> Segment:
    """The segment that covers the whole day."""
    return Segment(partition, DAY_START, DAY_END)


def _second(at: dt.datetime) -> str:
    # strftime writes the year 999 as 999 on Linux, isoformat as 0999
    return f"{at.date()}_{at:%H-%M-%S}"


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None
