"""The status document: what the service knows of itself, for the dashboard, `bikeflow status` and programs."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bikeflow import __version__
from bikeflow.core.model import UTC, DatabasePublished, Fault, FetchFinished, Vitals
from bikeflow.health.health import Health
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import state_of, verdict_document
from bikeflow.ledger import Ledger
from bikeflow.settings.systems import System, public_url

LATEST_RUNS = 8
SYSTEMS_SHOWN = 20
"""So many systems are in the status document, the worst first; `/api/v1/systems` has all."""
_COUNTS = ("segments", "rows", "stations", "stations_outside", "stations_empty", "stations_full", "future_snapshots")
_ORDER = ("failing", "starting", "working")
Document = dict[str, Any]


def live_document(health: Health) -> Document:
    """What the running service knows without looking anything up."""
    settings, seen, vitals, verdict = health.settings, health.seen, health.vitals(), health.verdict()
    now, published, systems = dt.datetime.now(UTC), seen.published, systems_now(health)
    return {
        "state": state_of(seen, verdict),
        "sentence": health.sentence(),
        "now": stamp(now),
        "service": {
            "version": __version__,
            "process_id": os.getpid(),
            "started_at": stamp(seen.started_at),
            "uptime_seconds": round((now - seen.started_at).total_seconds()),
        },
        "data_dir": str(settings.data_dir.absolute()),
        "storage": settings.storage.backend,
        "parts": verdict_document(verdict, seen.started_at),
        "feed": {**_feed(settings.shown_system), "fetches": dict(seen.fetches), "last_fetch": _fetch(seen.last_fetch)},
        "systems": {row["id"]: row for row in systems[:SYSTEMS_SHOWN]},
        "systems_counted": dict(Counter(row["state"] for row in systems)),
        "spool": {"snapshots": vitals.spool_snapshots, "bytes": vitals.spool_bytes} if vitals else None,
        "queue": {"waiting": vitals.queue_waiting, "running": vitals.queue_in_flight} if vitals else None,
        "database": published and {**_database(published, now), **health.fresh(published.newest_snapshot)},
        "exports": verdict_document(seen.exports),
    }


def systems_now(health: Health) -> list[Document]:
    """How each system is doing, the worst first: those that fail, by since when, then those of which nothing is known.

    `state` is `failing`, `starting` or `working`; a system that works is in the order of the configuration.
    """
    seen, vitals, verdicts = health.seen, health.vitals(), health.lane_verdicts()
    rows = []
    for system in health.settings.all_systems:
        faults = [fault for fault in verdicts.get(system.id, {}).values() if fault is not None]
        oldest = min(faults, key=lambda fault: fault.since, default=None)
        new = oldest is None or all(fault.since == seen.started_at for fault in faults)
        state = ("working" if oldest is None and verdicts else "starting") if new else "failing"
        rows.append((_ORDER.index(state), oldest.since if oldest else seen.started_at, system, state, oldest))
    rows.sort(key=lambda row: row[:2])
    return [_system(system, state, fault, seen, vitals) for _, _, system, state, fault in rows]


def ledger_document(ledger: Ledger, lake: Mapping[str, int], today: dt.date) -> Document:
    """What the ledger knows, whether the service runs or not; `lake` is its totals."""
    found = [index.fetch_state() for index in ledger.systems.values()]
    states = [state for state in found if state is not None]
    snapshot, day = max(states, key=lambda state: state.fetched_at, default=None), ledger.totals(today)
    return {
        "last_snapshot": snapshot and {"key": snapshot.key, "fetched_at": stamp(snapshot.fetched_at)},
        "lake": dict(lake),
        "today": {"partition": str(today), **{name: day[name] for name in ("raw_files", "lines", "rows", "rejected")}},
        "failing_partitions": [
            {**_named(row), "retry_at": stamp(dt.datetime.fromisoformat(str(row["retry_at"])))}
            for row in ledger.runs.failing()
        ],
        "latest_runs": latest_runs(ledger, LATEST_RUNS),
    }


def latest_runs(ledger: Ledger, count: int) -> list[Document]:
    """The newest runs, newest first, with their durations."""
    return [_run(row) for row in ledger.runs.latest(count)]


def stamp(at: dt.datetime) -> str:
    """RFC 3339, UTC, whole seconds."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _run(row: Mapping[str, object]) -> Document:
    started, finished = (dt.datetime.fromisoformat(str(row[name])) for name in ("started_at", "finished_at"))
    seconds = round((finished - started).total_seconds(), 3)
    return {**_named(row), "started_at": stamp(started), "finished_at": stamp(finished), "duration_seconds": seconds}


def _feed(system: System) -> Document:
    return {"url": public_url(system.feed.url), "interval_seconds": system.feed.interval_seconds}


def _system(system: System, state: str, fault: Fault | None, seen: Observations, vitals: Vitals | None) -> Document:
    """What belongs to one system alone."""
    lane = vitals.lanes.get(system.id) if vitals else None
    return {
        "id": system.id,
        "name": system.name,
        "format": system.format,
        **_feed(system),
        "state": state,
        "reason": fault and fault.reason,
        "since": fault and stamp(fault.since),
        "last_fetch": _fetch(seen.last_fetches.get(system.id)),
        "spool": {"snapshots": lane.spool_snapshots, "bytes": lane.spool_bytes} if lane else None,
    }


def _named(row: Mapping[str, object]) -> Document:
    """A row of the ledger under the names that programs know: a partition is its day, beside its system."""
    return {"partition" if name == "day" else name: value for name, value in row.items()}


def _fetch(event: FetchFinished | None) -> Document | None:
    if event is None:
        return None
    names = ("outcome", "bytes", "duration_seconds", "attempts", "error")
    return {"at": stamp(event.at), **{name: getattr(event.outcome, name) for name in names}}


def _database(published: DatabasePublished, now: dt.datetime) -> Document:
    newest = published.newest_snapshot
    return {
        "published_at": stamp(published.at),
        "newest_snapshot": newest and stamp(newest),
        "newest_snapshot_age_seconds": newest and round((now - newest).total_seconds()),
        "bytes": published.size_bytes,
        "free_bikes": published.bikes,
        "free_bikes_outside": published.bikes_outside,
        **{name: getattr(published, name) for name in _COUNTS},
    }
