"""`bikeflow probe`: what a GBFS feed is, before it is added."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic import ValidationError

from bikeflow.cli.options import Json
from bikeflow.cli.results import echo, echo_json
from bikeflow.core.errors import ConfigError, Permanent
from bikeflow.feeds.base import Answer
from bikeflow.feeds.gbfs.polling import Poller
from bikeflow.feeds.gbfs.probe import DocumentReport, Probe
from bikeflow.feeds.gbfs.probe import probe as look_at
from bikeflow.ingest.download import download
from bikeflow.ingest.upstream import Connections
from bikeflow.settings.sections import FeedSettings

Address = Annotated[str, typer.Argument(metavar="URL", help="The address of its auto-discovery document (gbfs.json).")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long each document may take.")]


def probe(url: Address, timeout_seconds: Timeout = 10, as_json: Json = False) -> None:
    """Look at a GBFS feed before adding it.

    It tells who runs the system, what its documents hold, what is odd in them, and the table to paste into config.toml.
    Each document is fetched once; nothing is stored.
    """
    found = asyncio.run(_probed(url, timeout_seconds))
    if as_json:
        echo_json({**dataclasses.asdict(found), "systems_block": found.systems_block})
        return
    for line in _lines(found):
        echo(line)


async def _probed(url: str, timeout_seconds: float) -> Probe:
    try:
        settings = FeedSettings(url=url, timeout_seconds=timeout_seconds)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "string_pattern_mismatch":
            raise ConfigError(f"{url} is no URL: it must begin with http:// or https://") from None
        raise ConfigError(f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}") from None
    async with Connections(settings.connections_per_host) as connections:
        session = await connections.session(settings.url)

        async def ask(url: str, validators: tuple[str, str] | None = None, *, retry: bool = True) -> Answer:
            return await download(session, settings, url, validators)

        data = await Poller(0, log_failures=False).poll(settings.url, ask)
    if data is None:
        raise Permanent(f"{url} gave no document")
    return await asyncio.to_thread(look_at, settings.url, data, dt.datetime.now(dt.UTC))


def _lines(found: Probe) -> Iterator[str]:
    """The report for people."""
    yield found.name or found.system_id or found.url
    facts = {
        "operator": found.operator,
        "system id": found.system_id,
        "time zone": found.timezone,
        "licence": found.licence,
        "contact": found.contact,
        "version": found.version,
    }
    for name, value in facts.items():
        yield f"  {name:<10} {value or 'not told'}"
    yield f"\n{found.stations:,} stations, {found.vehicles:,} vehicles, {found.rejected:,} rejected records"
    yield "\ndocuments"
    for document in found.documents:
        yield f"  {document.name:<20} {_described(document)}"
    yield "\nwhat is odd" if found.oddities else "\nnothing is odd"
    for oddity in found.oddities:
        yield f"  {oddity.count:>6,}  {oddity.what}: {', '.join(oddity.examples)}"
    yield "\nTo add it, paste this into config.toml:\n"
    yield found.systems_block


def _described(document: DocumentReport) -> str:
    parts = []
    if document.error is not None:
        parts.append(f"failed: {document.error}")
    if document.bytes is not None:
        parts.append(f"{document.bytes:,} bytes")
    if document.records is not None:
        parts.append(f"{document.records:,} records")
    if document.age_seconds is not None:
        parts.append(f"updated {_ago(document.age_seconds)}")
    if document.ttl_seconds is not None:
        parts.append(f"ttl {document.ttl_seconds:g} s")
    return ", ".join(parts)


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 2 * length:
            return f"{abs(seconds) / length:.0f} {unit} {'ago' if seconds > 0 else 'ahead'}"
    return f"{abs(seconds):.0f} s {'ago' if seconds >= 0 else 'ahead'}"
