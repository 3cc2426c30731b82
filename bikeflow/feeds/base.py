"""What the rest of bikeflow asks of a format: one kind of upstream, and the raw files that its snapshots become.

A format knows which documents make a snapshot, how a snapshot becomes one raw object, how a raw object becomes rows and
dead letters, and how its records are counted. The rest of bikeflow knows rows only (`core.schema`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bikeflow.core.model import RawFile
from bikeflow.settings.sections import RulesSettings

if TYPE_CHECKING:
    import pyarrow as pa  # who looks at settings only does without


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream's server answered; `body` is None where it has nothing new (304). Absent headers are empty.

    `asked_at` is when the request began, on the monotonic clock; `server_time` is the server's, where it tells it.
    """

    status: int
    body: bytes | None
    content_type: str
    charset: str | None
    etag: str
    last_modified: str
    asked_at: float
    server_time: dt.datetime | None = None


class Ask(Protocol):
    """Asks an upstream for one document: politely, with conditions and retries."""

    async def __call__(self, url: str, validators: tuple[str, str] | None = None, *, retry: bool = True) -> Answer:
        """The answer; raises Transient, Permanent.

        `validators` are the ETag and Last-Modified of the content that the caller still has (None: those of the last
        snapshot's document); `retry` tells whether a request that fails is made again within the poll.
        """
        ...


@dataclass(frozen=True, slots=True)
class RawContent:
    """A raw file's identity and the bytes that lie in the store; `md5` is theirs."""

    raw: RawFile
    md5: str
    data: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected record, in the fields of the contract; a whole unreadable file has `line_number` None."""

    source_key: str
    line_number: int | None
    raw_line: str
    column: str | None
    check: str
    value: str | None
    message: str


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one raw file gave: `table` holds its accepted rows (columns `ENCODED`), in the order of its records.

    The conservation law holds by construction and is checked again by `verify`: lines = rows + rejected. (A line is a
    record: a data line of the WRM's CSV, an array element of GBFS.) `recipe` names what made the rows.
    """

    raw: RawFile
    md5: str
    table: pa.Table
    lines: int
    rejected: int
    dead_letters: tuple[DeadLetter, ...]
    recipe: str
    unknown_columns: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of accepted records."""
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class RecordCount:
    """The `records` in a raw file, and whether it is `readable`: one that isn't gives no rows, and one dead letter."""

    records: int
    readable: bool


class Format(Protocol):
    """One kind of upstream; an instance belongs to one system and may remember what it last fetched."""

    raw_stem: str
    """How the names of its raw files begin."""
    raw_suffix: str
    """How they end, with the dot."""

    async def snapshot(self, url: str, ask: Ask, *, whole: bool = False) -> bytes | None:
        """Fetch a snapshot: the content of one raw object, or None where the upstream says that nothing has changed.

        A `whole` one is wanted even then.
        Raises `NotAFeed` where an answer is no document of this format, and what `ask` raises.
        """
        ...

    def fingerprint(self, data: bytes) -> str:
        """The same for the contents of two raw objects that tell the same: only the first of them is kept."""
        ...

    def reconsider(self, raw: bytes, charset: str | None) -> bytes:
        """The raw object of what was no document of this format when it came (`NotAFeed.raw`), if it is one now.

        Raises `NotAFeed`.
        """
        ...

    def as_text(self, body: bytes, charset: str | None) -> str:
        """A document as text for people, whatever it is."""
        ...

    def parse(self, files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
        """Parse, type, validate, classify and flag all records of raw files; one result a file, in the same order.

        Raises nothing, whatever the bytes are: what can't be read is a dead letter, without a line number where that is
        the whole file. (Half surrogates in texts, huge numbers and deep JSON occur.) The number of records is the one
        that `count_records` gives. A row needs `station_id`, `record_type`, `s3_source_key`, `file_timestamp`, `date`,
        `processed_at` and `quality_flags`; all else is null where the feed does not tell it.
        """
        ...

    def count_records(self, data: bytes) -> RecordCount:
        """Count the records of a raw file's content without parsing them."""
        ...
