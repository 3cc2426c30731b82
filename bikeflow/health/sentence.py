"""How things stand, in one sentence for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from bikeflow.core.model import DatabasePublished, Fault, Vitals
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import Verdict, state_of

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_DAY_SECONDS = 86_400
_ONLY_DAYS_FROM = 10
_TROUBLES = {
    "fetching": "no new snapshots come in",
    "storing": "snapshots can't be stored",
    "clock": "the clock is wrong",
    "watching": "the store can't be listed",
    "archive": "raw files are missing from the store",
    "processing": "some snapshots can't be processed",
    "refreshing": "the database is not refreshed",
}


def sentence(
    verdict: Verdict, vitals: Vitals | None, seen: Observations, now: dt.datetime, *, stale: bool = False
) -> str:
    """Such as: `All works: the newest snapshot is 12 s old, 2,154,240 rows are published, nothing waits.`

    What a client said of a failure is not in it: `verdict` has that.
    """
    age, waits = _snapshot(seen.published, now), _waiting(vitals)
    rest = f"{age}, {_rows(seen.published)}{waits}."
    match state_of(seen, verdict):
        case "working":
            return f"All works, but nothing new comes in: {rest}" if stale else f"All works: {rest}"
        case "starting":
            return _starting(verdict, rest)
        case _:
            # What has not happened for the first time yet is no trouble of its own.
            faults = {name: fault for name, fault in verdict.items() if fault and fault.since != seen.started_at}
            since = min(fault.since for fault in faults.values())
            return f"Not working for {span(now - since)}: {_trouble(verdict, faults)}; {age}, {waits}."


def _starting(verdict: Verdict, rest: str) -> str:
    reasons = dict.fromkeys(fault.reason for fault in verdict.values() if fault is not None)
    return f"Starting: {', '.join(reasons)}; {rest}"


def _trouble(verdict: Verdict, faults: dict[str, Fault]) -> str:
    reasons = {fault.reason for fault in faults.values()}
    if len(faults) == len(verdict) and len(reasons) == 1:
        return reasons.pop()  # one of ours: the service is stopping
    troubles = [_TROUBLES.get(name, name) for name in faults]
    if faults.keys() >= {"storing", "watching"}:
        pair = [_TROUBLES["storing"], _TROUBLES["watching"]]
        troubles = ["the store can't be reached", *(trouble for trouble in troubles if trouble not in pair)]
    return listed(troubles)


def status_line(verdict: Verdict, vitals: Vitals | None, seen: Observations, now: dt.datetime) -> str:
    """The same for `systemctl status`, with the last fetch, the lines rejected since the start, and the storage."""
    storage = "works" if vitals else "is not open"
    if vitals and any(lane.delivery or lane.watcher for lane in vitals.lanes.values()):
        storage = "fails"
    rest = (
        f"{_fetched(seen, now)}, {_snapshot(seen.published, now)}, {_rows(seen.published)}{_waiting(vitals)}, "
        f"{count(seen.rejected, 'line')} rejected since the start, the storage {storage}."
    )
    match state_of(seen, verdict):
        case "working":
            return f"All works: {rest}"
        case "starting":
            return _starting(verdict, rest)
        case _:
            return f"Not working: {'; '.join(_problems(verdict, now))}; {rest}"


def stopping_line(vitals: Vitals | None) -> str:
    """The same while the service ends."""
    return f"Stopping: what is in hand is finished first, {_waiting(vitals)}."


def _problems(verdict: Verdict, now: dt.datetime) -> Iterator[str]:
    """One a reason, with the parts that it breaks and the longest of their times."""
    faults = [fault for fault in verdict.values() if fault is not None]
    for reason in dict.fromkeys(fault.reason for fault in faults):
        parts = [name for name, fault in verdict.items() if fault is not None and fault.reason == reason]
        since = min(fault.since for fault in faults if fault.reason == reason)
        yield f"{listed(parts)} (for {span(now - since)}: {reason})"


def span(length: dt.timedelta) -> str:
    """A time in its two largest units, or in days from ten on: `3 min`, `2 h 5 min`, `4 d`, `545 days`."""
    seconds = max(round(length.total_seconds()), 0)
    if seconds >= _ONLY_DAYS_FROM * _DAY_SECONDS:
        return f"{seconds // _DAY_SECONDS:,} days"
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
    age = now - published.newest_snapshot
    date = f" ({published.newest_snapshot:%-d %B %Y, %H:%M} UTC)" if age.total_seconds() >= _DAY_SECONDS else ""
    return f"the newest snapshot is {span(age)} old{date}"


def _rows(published: DatabasePublished | None) -> str:
    return f"{published.rows:,} rows are published, " if published and published.newest_snapshot else ""


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
