"""What the fetcher tells of itself, and what it must be told by others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bikeflow.core.model import Fault, FetchOutcome, FetchState, Outcome


@dataclass(frozen=True, slots=True)
class FetcherStatus:
    """The fetcher at one moment: for status pages, metrics and readiness.

    `counts` has the number of fetches by outcome; `failing_since` and `fault` are None while the feed answers as it
    should, `store_failing_seconds` and `store_fault` while the store takes what waits in the spool.
    """

    last: FetchOutcome | None
    last_success_at: dt.datetime | None
    failing_since: dt.datetime | None
    consecutive_failures: int
    counts: Mapping[Outcome, int]
    spool_entries: int
    spool_bytes: int
    store_failing_seconds: float | None
    fault: Fault | None
    store_fault: Fault | None


class FetchMemory(Protocol):
    """Where the fetcher remembers the last snapshot across restarts; its methods may block."""

    def fetch_state(self) -> FetchState | None:
        """What was saved last, or None."""
        ...

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        ...
