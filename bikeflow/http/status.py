"""The status document: what the service knows of itself, for the dashboard, `bikeflow status` and programs."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import Any

from bikeflow import __version__
from bikeflow.core.model import UTC, DatabasePublished, FetchFinished, Vitals
from bikeflow.health.health import Health
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import state_of, verdict_document
from bikeflow.ledger import Ledger
from bikeflow.settings.systems import System, public_url

LATEST_RUNS = 8
_COUNTS = ("segments", "rows", "stations", "stations_outside", "stations_empty", "stations_full", "future_snapshots")
Document = dict[str, Any]


def live_document(health: Health) -> Document:
    """What the running service knows without looking anything up."""
    settings, seen, vitals, verdict = health.settings, health.seen, health.vitals(), health.verdict()
    now, published = dt.datetime.now(UTC), seen.published
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
        "systems": {system.id: _system(system, seen, vitals) for system in settings.all_systems},
        "spool": {"snapshots": vitals.spool_snapshots, "bytes": vitals.spool_bytes} if vitals else None,
        "queue": {"waiting": vitals.queue_waiting, "running": vitals.queue_in_flight} if vitals else None,
        "database": published and {**_database(published, now), **health.fresh(published.newest_snapshot)},
        "exports": verdict_document(seen.exports),
    }


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


def _system(system: System, seen: Observations, vitals: Vitals | None) -> Document:
    """What belongs to one system alone."""
    lane = vitals.lanes.get(system.id) if vitals else None
    return {
        "name": system.name,
        **_feed(system),
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
