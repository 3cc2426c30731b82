"""Is this machine's clock right? It is compared with the feed's server, by the header `Date` of its answers."""

from __future__ import annotations

import datetime as dt

from bikeflow.core.model import UTC, Fault
from bikeflow.runtime.log import get_logger

BASELINE_SECONDS = 60.0
"""Two answers so far apart tell whether the server's time moves on as time does, or is that of an old answer."""
AGREEMENT_SECONDS = 30.0
MOST_DOCUMENTS = 64
_log = get_logger()


class ClockWatch:
    """Notices that this machine's clock and that of the feed's server differ by more than `tolerance_seconds` (0: off).

    A cache may give an old answer with an old time. So a time before ours counts only where it has moved on, between
    two answers for the same document, as our steady clock has; one after ours is never that of an old answer.
    """

    def __init__(self, place: str, tolerance_seconds: float) -> None:
        self._place = place
        self._tolerance_seconds = tolerance_seconds
        self._anchors: dict[str, tuple[dt.datetime, float]] = {}
        self.fault: Fault | None = None
        """Since when and by how much the clocks differ, or None while they agree."""

    def note(self, url: str, server_time: dt.datetime | None, now: dt.datetime, steady_seconds: float) -> None:
        """An answer has come, `now` by our clock and at `steady_seconds` on the monotonic one."""
        if server_time is None or not self._tolerance_seconds:
            return
        ahead_seconds = (now - server_time).total_seconds()
        anchor = self._anchors.get(url)
        elapsed_seconds = steady_seconds - anchor[1] if anchor else 0.0
        if anchor is None or elapsed_seconds >= BASELINE_SECONDS:
            if len(self._anchors) >= MOST_DOCUMENTS:
                self._anchors.clear()
            self._anchors[url] = server_time, steady_seconds
        moves_on = (
            anchor is not None
            and elapsed_seconds >= BASELINE_SECONDS
            and abs((server_time - anchor[0]).total_seconds() - elapsed_seconds) <= AGREEMENT_SECONDS
        )
        if moves_on or ahead_seconds < -self._tolerance_seconds:
            self._judge(ahead_seconds)

    def _judge(self, ahead_seconds: float) -> None:
        if abs(ahead_seconds) <= self._tolerance_seconds:
            if self.fault is not None:
                _log.info("clocks_agree", url=self._place)
            self.fault = None
            return
        way = "ahead of" if ahead_seconds > 0 else "behind"
        reason = f"this machine's clock is {_span(abs(ahead_seconds))} {way} that of the feed's server ({self._place})"
        if self.fault is None:
            hint = "snapshots are filed by this clock; look at the time synchronisation of this machine"
            _log.error("clock_differs", url=self._place, ahead_seconds=round(ahead_seconds), hint=hint)
        self.fault = Fault(self.fault.since if self.fault else dt.datetime.now(UTC), reason)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes:,} min" if minutes < 48 * 60 else f"{minutes // (24 * 60):,} days"
