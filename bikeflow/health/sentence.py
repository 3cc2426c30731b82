"""How things stand, in one sentence for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from bikeflow.core.model import DatabasePublished, Vitals
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import State, Verdict

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def sentence(
    state: State, verdict: Verdict, vitals: Vitals | None, published: DatabasePublished | None, now: dt.datetime
) -> str:
    """Such as: `All works: the newest snapshot is 12 s old, 2,154,240 rows are published, nothing waits.`"""
    return _told(state, verdict, now, f"{_snapshot(published, now)}, {_waiting(vitals)}.")


def status_line(state: State, verdict: Verdict, vitals: Vitals | None, seen: Observations, now: dt.datetime) -> str:
    """The same for `systemctl status`, with the last fetch, the lines rejected since the start, and the storage."""
    storage = "fails" if vitals and (vitals.delivery or vitals.watcher) else "works" if vitals else "is not open"
    rest = (
        f"{_fetched(seen, now)}, {_snapshot(seen.published, now)}, {_waiting(vitals)}, "
        f"{count(seen.rejected, 'line')} rejected since the start, the storage {storage}."
    )
    return _told(state, verdict, now, rest)


def stopping_line(vitals: Vitals | None) -> str:
    """The same while the service ends."""
    return f"Stopping: what is in hand is finished first, {_waiting(vitals)}."


def _told(state: State, verdict: Verdict, now: dt.datetime, rest: str) -> str:
    match state:
        case "working":
            return f"All works: {rest}"
        case "starting":
            reasons = dict.fromkeys(fault.reason for fault in verdict.values() if fault is not None)
            return f"Starting: {', '.join(reasons)}; {rest}"
        case _:
            return f"Not working: {'; '.join(_problems(verdict, now))}; {rest}"


def _problems(verdict: Verdict, now: dt.datetime) -> Iterator[str]:
    """One a reason, with the parts that it breaks and the longest of their times."""
    faults = [fault for fault in verdict.values() if fault is not None]
    for reason in dict.fromkeys(fault.reason for fault in faults):
        parts = [name for name, fault in verdict.items() if fault is not None and fault.reason == reason]
        since = min(fault.since for fault in faults if fault.reason == reason)
        yield f"{listed(parts)} (for {span(now - since)}: {reason})"


def span(length: dt.timedelta) -> str:
    """A time in its two largest units: `3 min`, `2 h 5 min`, `4 d`."""
    seconds = max(round(length.total_seconds()), 0)
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def _fetched(seen: Observations, now: dt.datetime) -> str:
    if seen.last_fetch is None:
        return "nothing is fetched yet"
    outcome = seen.last_fetch.outcome.outcome.replace("_", " ")
    return f"the last fetch was {span(now - seen.last_fetch.at)} ago ({outcome})"


def _snapshot(published: DatabasePublished | None, now: dt.datetime) -> str:
    if published is None or published.newest_snapshot is None:
        return "no snapshot is published yet"
    return f"the newest snapshot is {span(now - published.newest_snapshot)} old, {published.rows:,} rows are published"


def _waiting(vitals: Vitals | None) -> str:
    waits = []
    if vitals is not None and vitals.spool_snapshots:
        waits.append(count(vitals.spool_snapshots, "snapshot") + " for the store")
    if vitals is not None and vitals.queue_waiting:
        waits.append(count(vitals.queue_waiting, "partition") + " for a processor")
    return f"waiting: {listed(waits)}" if waits else "nothing waits"


def count(number: int, noun: str) -> str:
    """`1 snapshot`, `1,200 snapshots`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(words: list[str]) -> str:
    """`one`, `one and two`, `one, two and three`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
