"""That nothing of a made-up world is lost, counted without bikeflow's code.

Every state that a system has served must lie in a raw object of the lake, and every record of a raw object in the
database.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from bikeflow.settings.sections import StorageSettings
from tests.support.s3server import S3Server
from tests.support.service import environment

ROWS = "SELECT s3_source_key, count(*) FROM analytics.history GROUP BY ALL"
MAIN = ("station_status.json", "vehicle_status.json", "free_bike_status.json")
_NAME = re.compile(r"/(s\d+)_([\d-]+_[\d-]+)\.zip$")
Served = Mapping[str, Mapping[str, float]]
"""When each state of each system was first served whole (Unix time)."""
Raw = Mapping[str, tuple[int, int]]
"""The state that each raw object holds, and the number of its records."""


async def prove(
    served: Served,
    raw: Raw,
    config: Path,
    database: Path,
    storage: StorageSettings | None = None,
    variables: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """What a service that has stopped has lost, after `bikeflow backfill` and by `bikeflow verify --full` too."""
    waiting = missing(raw, database)
    variables = {**environment(storage), **(variables or {})}
    await _bikeflow(config, variables, "backfill")  # what the stop left to the next start
    report = json.loads(await _bikeflow(config, variables, "verify", "--full", "--json"))
    for finding in report["findings"]:
        print(f"{finding['kind']} {finding['key']}: {finding['message']}", file=sys.stderr)
    return {
        "records_waiting_at_stop": waiting,
        **_lost(served, raw, database),
        "verify_findings": len(report["findings"]),
        "verify_rejected": report["rejected"],
    }


def raw_objects(found: Iterable[tuple[str, bytes]]) -> Raw:
    """The raw objects among all."""
    return {key: _read(data) for key, data in found if _NAME.search(key)}


def files(lake: Path) -> Iterator[tuple[str, bytes]]:
    """All objects of a local lake."""
    for path in lake.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(lake)), path.read_bytes()


def objects(server: S3Server, storage: StorageSettings) -> Iterator[tuple[str, bytes]]:
    """All objects of a bucket."""
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=storage.bucket):
        for entry in page.get("Contents", ()):
            yield entry["Key"], client.get_object(Bucket=storage.bucket, Key=entry["Key"])["Body"].read()


def _read(data: bytes) -> tuple[int, int]:
    """The state that a raw object holds, and the number of its records."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [json.loads(archive.read(name))["data"] for name in MAIN if name in archive.namelist()]
    arrays = [content.get("stations") or content.get("bikes") or content.get("vehicles") or [] for content in found]
    return found[0]["state"], sum(map(len, arrays))


def named(key: str) -> tuple[str, dt.datetime]:
    """The system and the time of a raw object."""
    match = _NAME.search(key)
    assert match is not None
    return match[1], dt.datetime.strptime(match[2], "%Y-%m-%d_%H-%M-%S")  # noqa: DTZ007 - as the database has it


def _lost(served: Served, raw: Raw, database: Path) -> dict[str, float]:
    """States that were served and are in no raw object, and records of raw objects that are not in the database."""
    kept: dict[str, set[int]] = {}
    for key, (state, _) in raw.items():
        kept.setdefault(named(key)[0], set()).add(state)
    states = {(system, int(state)) for system, found in served.items() for state in found}
    return {
        "states_served": len(states),
        "states_lost": sum(state not in kept.get(system, ()) for system, state in states),
        "records": sum(records for _, records in raw.values()),
        "records_lost": missing(raw, database),
        "rows_of_no_raw_file": sum(count for key, count in query(database, ROWS) if key not in raw),
    }


def missing(raw: Raw, database: Path) -> int:
    """By how much the rows of each raw object in the database differ from its records."""
    rows = dict(query(database, ROWS))
    return sum(abs(records - rows.get(key, 0)) for key, (_, records) in raw.items())


async def _bikeflow(config: Path, variables: Mapping[str, str], command: str, *arguments: str) -> bytes:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", command, "--config", str(config), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **variables},
    )  # fmt: skip
    output, _ = await process.communicate()
    return output


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows that a published database answers with."""
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(sql).fetchall()
