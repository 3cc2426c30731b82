"""`bikeflow status`: what is there, what waits, what fails."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bikeflow.cli import options

if TYPE_CHECKING:
    from bikeflow.ledger import Ledger
    from bikeflow.settings import Settings


def status(
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Show what the ledger knows, whether the service runs or not; exit 1 while a partition fails."""
    settings = options.load(config, overrides, data_dir).settings
    document = _document(settings)
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2) if as_json else _text(document))
    if document["failing_partitions"]:
        raise typer.Exit(1)


def _document(settings: Settings) -> dict[str, Any]:
    from bikeflow.errors import BikeflowError
    from bikeflow.layout import Layout
    from bikeflow.ledger import FILE_NAME, Ledger
    from bikeflow.lock import holder

    path = settings.data_dir / FILE_NAME
    if not path.exists():
        raise BikeflowError(
            f"there is no ledger in {settings.data_dir} yet; start with `bikeflow run` or `bikeflow demo`"
        )
    layout = Layout(settings.storage.prefix)
    with Ledger(settings.data_dir, layout, settings.processing.segment_minutes, read_only=True) as ledger:
        return {
            "data_dir": str(settings.data_dir.absolute()),
            "service_process": holder(settings.data_dir),
            "storage": settings.storage.backend,
            "last_snapshot": _last_snapshot(ledger),
            **ledger.files.totals(),
            "spooled_snapshots": len(list((settings.data_dir / "spool").glob("*.txt"))),
            "failing_partitions": ledger.runs.failing(),
            "latest_runs": ledger.runs.latest(5),
            "database": _database(settings.warehouse.path or settings.data_dir / "analytics.duckdb"),
        }


def _last_snapshot(ledger: Ledger) -> dict[str, object] | None:
    state = ledger.feed.fetch_state()
    return (
        state if state is None else {"key": state.key, "fetched_at": _stamp(state.fetched_at), "sha256": state.sha256}
    )


def _database(path: Path) -> dict[str, object] | None:
    if not path.exists():
        return None
    information = path.stat()
    published = dt.datetime.fromtimestamp(information.st_mtime, dt.UTC)
    return {"path": str(path.absolute()), "published_at": _stamp(published), "bytes": information.st_size}


def _stamp(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(document: dict[str, Any]) -> str:
    snapshot, database, process = document["last_snapshot"], document["database"], document["service_process"]
    lines = [
        ("service", f"running, process {process}" if process else "not running"),
        ("data_dir", document["data_dir"]),
        ("last snapshot", f"{snapshot['fetched_at']}  {snapshot['key']}" if isinstance(snapshot, dict) else "none yet"),
        ("raw files", f"{document['raw_files']:,}, of which {document['processed_files']:,} processed"),
        ("lines", f"{document['lines']:,} = {document['rows']:,} rows + {document['rejected']:,} rejected"),
        ("waiting", f"{document['spooled_snapshots']} snapshots for the store, {document['dirty_segments']} segments"),
        ("database", f"{database['path']}, {database['published_at']}" if isinstance(database, dict) else "none yet"),
    ]
    text = [f"{name:<14} {value}" for name, value in lines]
    failing = document["failing_partitions"]
    text += [f"failing        {row['partition']}, {row['failures']} times: {row['error']}" for row in failing]
    return "\n".join(text)
