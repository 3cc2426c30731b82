"""`bikeflow status`: how things stand, as the running service says, or else as the ledger knows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import typer

from bikeflow.cli.options import Given, Json, grouped, start_hint
from bikeflow.cli.results import echo, echo_json
from bikeflow.core.errors import BikeflowError
from bikeflow.feeds import layout_of
from bikeflow.health.sentence import count, listed, span
from bikeflow.http.client import ask_status
from bikeflow.http.status import ledger_document, stamp
from bikeflow.ledger import FILE_NAME, Ledger
from bikeflow.runtime.lock import holder
from bikeflow.settings import Settings

SYSTEMS_SHOWN = 5


@grouped
def status(given: Given, as_json: Json = False) -> None:
    """Show how things stand; exit 1 while something fails. It works whether the service runs or not."""
    settings = given.settings
    document = ask_status(settings.data_dir) or _from_ledger(settings)
    if as_json:
        echo_json(document, indent=2)
    else:
        echo(_text(document))
    if document["state"] == "failing" or document["failing_partitions"]:
        raise typer.Exit(1)


def _from_ledger(settings: Settings) -> dict[str, Any]:
    """The same document without what only a running service knows."""
    directory, process_id = settings.data_dir, holder(settings.data_dir)
    if not (directory / FILE_NAME).exists():
        raise BikeflowError(f"there is no ledger in {directory} yet; {start_hint(directory)}")
    waiting = [path.stat().st_size for path in (directory / "spool").rglob("*.txt")]
    now = dt.datetime.now(dt.UTC)
    layouts, minutes = [layout_of(system) for system in settings.all_systems], settings.processing.segment_minutes
    with Ledger(directory, layouts, minutes, read_only=True, at_rest=process_id is None) as own:
        known = ledger_document(own, own.totals(), now.date())
    return {
        "state": "silent" if process_id else "stopped",
        "sentence": _sentence(process_id, known, len(waiting), now),
        "service": {"process_id": process_id} if process_id else None,
        "data_dir": str(directory.absolute()),
        "storage": settings.storage.backend,
        "parts": {},
        "spool": {"snapshots": len(waiting), "bytes": sum(waiting)},
        "database": _database(settings.warehouse.path or directory / "analytics.duckdb"),
        **known,
    }


def _sentence(process_id: int | None, known: dict[str, Any], waiting: int, now: dt.datetime) -> str:
    service = f"Process {process_id} is at work, but answers no HTTP" if process_id else "The service is not running"
    snapshot = known["last_snapshot"]
    age = snapshot and f"{span(now - dt.datetime.fromisoformat(snapshot['fetched_at']))} old"
    dirty = known["lake"]["dirty_segments"]
    waits = [f"{count(waiting, 'snapshot')} for the store"] if waiting else []
    waits += [f"{count(dirty, 'segment')} for a processor"] if dirty else []
    return (
        f"{service}; the last snapshot is {age or 'yet to come'}, {known['lake']['rows']:,} rows are processed, "
        f"{'waiting: ' + listed(waits) if waits else 'nothing waits'}."
    )


def _database(path: Path) -> dict[str, object] | None:
    if not path.exists():
        return None
    information = path.stat()
    return {
        "published_at": stamp(dt.datetime.fromtimestamp(information.st_mtime, dt.UTC)),
        "bytes": information.st_size,
    }


def _text(document: dict[str, Any]) -> str:
    snapshot, database, lake = document["last_snapshot"], document["database"], document["lake"]
    lines = [("data_dir", f"{document['data_dir']}, storage {document['storage']}")]
    # What only the running service knows is missing where none answers.
    lines += _systems(document)
    if snapshot:
        lines.append(("last snapshot", f"{snapshot['fetched_at']}  {snapshot['key']}"))
    if lake:
        lines += [
            ("raw files", f"{lake['raw_files']:,}, of which {lake['processed_files']:,} processed"),
            ("lines", f"{lake['lines']:,} = {lake['rows']:,} rows + {lake['rejected']:,} rejected"),
        ]
    if document["spool"]:
        lines.append(("spool", f"{document['spool']['snapshots']} snapshots, {document['spool']['bytes']:,} bytes"))
    if queue := document.get("queue"):
        lines.append(("queue", f"{queue['waiting']} partitions waiting, {queue['running']} being processed"))
    if database:
        lines.append(("database", f"published {database['published_at']}, {database['bytes']:,} bytes"))
    for name, part in document["parts"].items():
        lines.append((name, "works" if part["works"] else f"FAILS since {part['since']}: {part['reason']}"))
    for row in document["failing_partitions"] or ():
        lines.append(("failing", f"{row['partition']}, {row['failures']} times: {row['error']}"))
    return "\n".join([document["sentence"], "", *(f"{name:<14} {value}" for name, value in lines)])


def _systems(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The last fetches of a few systems, the worst first; none where no service answers."""
    systems, counted = document.get("systems") or {}, document.get("systems_counted") or {}
    lines = []
    for system_id, system in list(systems.items())[:SYSTEMS_SHOWN]:
        if fetch := system["last_fetch"]:
            name = f"{system_id}: " if len(systems) > 1 else ""
            ending = f"{fetch['outcome']}{fetch['error'] and ', ' + fetch['error']}"
            lines.append(("last fetch", f"{name}{fetch['at']}  {ending}"))
    if (others := sum(counted.values()) - SYSTEMS_SHOWN) > 0:
        states = listed([f"{number:,} {state}" for state, number in counted.items()])
        lines.append(("systems", f"{others:,} more; {states} in all: `bikeflow systems --worst` shows them"))
    return lines
