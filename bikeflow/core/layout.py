"""Where everything lies in the lake: object keys below a system's prefix, and how a day is cut into segments.

The contract's key layout in one place; nothing else composes or takes apart a key.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Literal

from bikeflow.core.model import UTC, ObjectInfo, Partition, RawFile, Segment

Layer = Literal["processed", "enhanced"]
LAYERS: tuple[Layer, ...] = ("processed", "enhanced")

_TIME_IN_NAME = re.compile(r"_(\d{4})-(\d{2})-(\d{2})_(\d{2})-(\d{2})-(\d{2})")
_RAW = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/([^/.][^/]*)")
_SEGMENT_NAME = re.compile(r"all_(?:processed|enhanced)_\d{8}_\d{6}\.parquet")
_POLLS_NAME = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/polls_(\d{8})\.parquet")
_PARQUET = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/all_(?:processed|enhanced)_(\d{8})_(\d{6})\.parquet")
DAY_START, DAY_END = dt.time(0), dt.time(23, 59, 59)
NO_DAY = dt.date.min
"""The day of what lies in no day's folder."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Composes and reads the keys of one system; `prefix` is empty or ends in a slash.

    A raw file is called `<raw_stem>_YYYY-MM-DD_HH-MM-SS<raw_suffix>`.
    """

    system_id: str
    prefix: str
    raw_stem: str
    raw_suffix: str

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

    @property
    def polls(self) -> str:
        """Prefix of the record of polls."""
        return f"{self.prefix}polls/"

    def polls_key(self, day: dt.date) -> str:
        """Key of the polls that were due on a day (UTC)."""
        return f"{self.polls}dt={day.isoformat()}/polls_{day.isoformat().replace('-', '')}.parquet"

    def polls_day(self, key: str) -> dt.date | None:
        """The day of a key below `polls`, or None where it is not one of ours."""
        match = _POLLS_NAME.fullmatch(key.removeprefix(self.polls))
        day = _date(match[1]) if match else None
        return day if day is not None and self.polls_key(day) == key else None

    def layer(self, layer: Layer) -> str:
        """Prefix of one layer's Parquet files."""
        return f"{self.prefix}{layer}/all/"

    def raw_folder(self, day: dt.date) -> str:
        """Prefix of one day's raw files."""
        return f"{self.raw}dt={day.isoformat()}/"

    def raw_key(self, at: dt.datetime) -> str:
        """Key of the snapshot that was fetched at `at` (whole seconds, UTC)."""
        return f"{self.raw_folder(at.date())}{self.raw_stem}_{_stamp(at)}{self.raw_suffix}"

    def segment_key(self, layer: Layer, segment: Segment) -> str:
        """Key of a segment's file: a pure function of the segment."""
        day = segment.partition.day.isoformat()
        return f"{self.layer(layer)}dt={day}/all_{layer}_{day.replace('-', '')}_{segment.end:%H%M%S}.parquet"

    def dead_letter_key(self, raw_key: str) -> str:
        """Key of the rejected records of one raw file."""
        return f"{self.prefix}dlq/{raw_key.removeprefix(self.raw).removesuffix(self.raw_suffix)}.jsonl"

    def raw_key_of(self, dead_letter_key: str) -> str:
        """The raw file that a dead-letter file belongs to: the inverse of `dead_letter_key`."""
        name = dead_letter_key.removeprefix(f"{self.prefix}dlq/").removesuffix(".jsonl")
        return f"{self.raw}{name}{self.raw_suffix}"

    @property
    def feed_dead_letters(self) -> str:
        """Prefix of downloads that were no feed document."""
        return f"{self.prefix}dlq/feed/"

    def feed_dead_letter_key(self, at: dt.datetime) -> str:
        """Key of a download that was no feed document."""
        return f"{self.feed_dead_letters}dt={at.date().isoformat()}/{_stamp(at)}.json"

    def raw_file(self, info: ObjectInfo) -> RawFile | None:
        """The raw file that an object below `raw/` is, or None for a foreign object."""
        match = _RAW.fullmatch(info.key.removeprefix(self.raw))
        day = _date(match[1]) if match else None
        if match is None or day is None or not match[2].endswith(self.raw_suffix):
            return None
        time = self.snapshot_time(match[2]) or info.last_modified
        return RawFile(info.key, Partition(self.system_id, day), time, info.size, info.etag, info.last_modified)

    def is_raw_key(self, key: str) -> bool:
        """Whether a key is that of a raw file, by its place."""
        match = _RAW.fullmatch(key.removeprefix(self.raw)) if key.startswith(self.raw) else None
        return match is not None and _date(match[1]) is not None and match[2].endswith(self.raw_suffix)

    def snapshot_time(self, key: str) -> dt.datetime | None:
        """The UTC time in a raw file's key (or name), or None where it has none."""
        name = key.rsplit("/", 1)[-1]
        if not (name.startswith(self.raw_stem) and name.endswith(self.raw_suffix)):
            return None
        match = _TIME_IN_NAME.fullmatch(name.removeprefix(self.raw_stem).removesuffix(self.raw_suffix))
        if match is None:
            return None
        try:
            # strptime takes ten times as long
            year, month, day, hour, minute, second = map(int, match.groups())
            return dt.datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return None

    def is_segment_key(self, layer: Layer, key: str) -> bool:
        """True where a key below a layer has the form of one of our files (the footer decides whose it is)."""
        match = _PARQUET.fullmatch(key.removeprefix(self.layer(layer)))
        return match is not None and match[1].replace("-", "") == match[2] and _date(match[1]) is not None

    @staticmethod
    def is_named_like_segment(key: str) -> bool:
        """True where a key, wherever it lies, ends in the name of a segment's file."""
        return _SEGMENT_NAME.fullmatch(key.rpartition("/")[2]) is not None


def segment_of(partition: Partition, time: dt.datetime, segment_minutes: int) -> Segment:
    """The segment of `partition` that holds a raw file of `time`; times outside the day fall in its first or last."""
    midnight = dt.datetime.combine(partition.day, DAY_START, UTC)
    minute = min(max(int((time - midnight).total_seconds() // 60), 0), 24 * 60 - 1)
    first = minute - minute % segment_minutes
    last = min(first + segment_minutes, 24 * 60) - 1
    return Segment(partition, dt.time(first // 60, first % 60), dt.time(last // 60, last % 60, 59))


def sealed_segment(partition: Partition) -> Segment:
    """The segment that covers the whole day."""
    return Segment(partition, DAY_START, DAY_END)


def day_of(key: str) -> dt.date:
    """The day in whose folder an object lies, or `NO_DAY`."""
    folder = key.rpartition("/")[0].rpartition("/")[2]
    return (_date(folder.removeprefix("dt=")) if folder.startswith("dt=") else None) or NO_DAY


def _stamp(at: dt.datetime) -> str:
    # isoformat pads years below 1000, strftime does not
    return f"{at.date().isoformat()}_{at:%H-%M-%S}"


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None
