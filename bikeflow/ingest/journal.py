"""What the fetcher says: one line a fetch, and when the feed fails or comes back, without a storm of lines."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import asdict
from typing import Literal

from bikeflow.core.model import UTC, Fault, FetchOutcome, Outcome
from bikeflow.runtime.log import get_logger

HINT = "trying again and again; `bikeflow demo` works without a network"
_log = get_logger()


class Journal:
    """Logs how fetches end and keeps count; `place` is the feed's URL, fit for logs."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.counts: Counter[Outcome] = Counter()
        self.fault: Fault | None = None
        """Since when and why the feed does not answer as it should, or None while it does."""
        self.consecutive_failures = 0
        self._has_worked = False

    def note_retry(self, error: BaseException, attempt: int, wait_seconds: float) -> None:
        """A request has failed and will be made again: people hear of the first at once."""
        self._announce("feed_unreachable", str(error))
        _log.debug("retrying", error=str(error), attempt=attempt, wait_seconds=round(wait_seconds, 3))

    def note(self, outcome: FetchOutcome) -> None:
        """A fetch has ended."""
        self.counts[outcome.outcome] += 1
        match outcome.outcome:
            case "failed" | "not_a_feed":
                self.consecutive_failures += 1
                self._announce("feed_unreachable" if outcome.outcome == "failed" else "feed_unusable", outcome.error)
                # The first failure is announced; of all that follow, the 2nd, 4th, 8th, ... are reminders.
                reminder = self.consecutive_failures > 1 and self.consecutive_failures.bit_count() == 1
                self._line("warning" if reminder else "debug", outcome)
            case "skipped_open_circuit":
                self._line("debug", outcome)
            case "lost":
                self._recovered()
                self._line("error", outcome)
            case _:
                self._has_worked = True
                self._recovered()
                self._line("info", outcome)

    def _announce(self, event: str, error: str) -> None:
        if self.fault is None:
            hint = {} if self._has_worked else {"hint": HINT}  # so it is given once at most
            _log.warning(event, url=self._place, error=error, **hint)
        self.fault = Fault(self.fault.since if self.fault else dt.datetime.now(UTC), error)

    def _recovered(self) -> None:
        if self.fault is not None:
            down_seconds = round((dt.datetime.now(UTC) - self.fault.since).total_seconds(), 1)
            _log.info("feed_recovered", url=self._place, down_seconds=down_seconds, failures=self.consecutive_failures)
        self.fault = None
        self.consecutive_failures = 0

    @staticmethod
    def _line(level: Literal["debug", "info", "warning", "error"], outcome: FetchOutcome) -> None:
        fields = {
            name: value for name, value in asdict(outcome).items() if value not in ("", None) and name != "trace_id"
        }
        getattr(_log, level)("fetched", **fields)
