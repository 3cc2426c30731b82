"""How fetches end, and what the fetcher tells of itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from bikeflow.model import FetchState

Outcome = Literal["stored", "duplicate", "not_modified", "failed", "not_a_feed", "lost", "skipped_open_circuit"]


@dataclass(frozen=True, slots=True)
class FetchOutcome:
    """How one fetch ended.

    `stored` means that the new snapshot is safe on the local disk and on its way to the store, `lost` that it could not
    be kept there. `key` is the raw key (empty unless stored), `bytes` the size of the document, `attempts` the number
    of requests made.
    """

    outcome: Outcome
    trace_id: str
    key: str = ""
    bytes: int = 0
    duration_seconds: float = 0.0
    attempts: int = 0
    error: str = ""

    @property
    def good(self) -> bool:
        """True where the feed answered as it should."""
        return self.outcome in ("stored", "duplicate", "not_modified")


@dataclass(frozen=True, slots=True)
class FetcherStatus:
    """The fetcher at one moment: for status pages, metrics and readiness.

    `counts` has the number of fetches by outcome; `failing_since` is None while the feed answers as it should, and
    `store_failing_seconds` while the store takes what waits in the spool.
    """

    last: FetchOutcome | None
    last_success_at: dt.datetime | None
    failing_since: dt.datetime | None
    consecutive_failures: int
    counts: Mapping[Outcome, int]
    spool_entries: int
    spool_bytes: int
    store_failing_seconds: float | None


class FetchMemory(Protocol):
    """Where the fetcher remembers the last snapshot across restarts; its methods may block."""

    def fetch_state(self) -> FetchState | None:
        """What was saved last, or None."""
        ...

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        ...
