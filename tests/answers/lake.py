"""The lake of one system as plain files, and the database that the command `bikeflow backfill` makes of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.polls.poll import Poll, PollOutcome, to_parquet
from tests.answers.places import station_density_hourly
from tests.answers.reading import RawFile, read_raw
from tests.answers.reference import Coverage, Life, lived, microseconds
from tests.support.service import configure
from tests.warehouse import expected


@dataclass
class Lake:
    """Raw files and polls below `folder`; `publish` makes the database of what lies there."""

    folder: Path
    zone: str = "Europe/Warsaw"
    format: str = "wrm"
    id: str = "city"

    def __post_init__(self) -> None:
        self.polls: list[Poll] = []
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._config = self.folder / "config.toml"
        self._root = self.folder / "data/lake/bike-data" / self.id
        self._root.mkdir(parents=True)
        system = {"id": self.id, "format": self.format, "url": "http://127.0.0.1:9/", "timezone": self.zone}
        configure(self._config, {"data_dir": self.folder / "data", "systems": [system], "log.level": "error"})

    def key(self, at: dt.datetime, day: dt.date | None = None, name: str | None = None) -> str:
        """The key of the snapshot of this time, in the folder of its day or of another, or called otherwise."""
        stem, suffix = ("wrm_stations", "txt") if self.format == "wrm" else (self.id, "zip")
        name = name or f"{stem}_{at:%Y-%m-%d_%H-%M-%S}"
        return f"bike-data/{self.id}/raw/dt={day or at.date()}/{name}.{suffix}"

    def put(self, key: str, data: bytes, modified: dt.datetime | None = None) -> None:
        """Write a raw file, or write it again; `modified` is the time of one without a time in its name."""
        path = self.folder / "data/lake" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if modified is not None:
            os.utime(path, (modified.timestamp(), modified.timestamp()))
        self.__dict__.pop("read", None)

    def remove(self, key: str) -> None:
        """Take a raw file away."""
        (self.folder / "data/lake" / key).unlink()
        self.__dict__.pop("read", None)

    def poll(self, at: dt.datetime, outcome: PollOutcome, interval_seconds: float, key: str | None = None) -> None:
        """Record a poll that was answered at once."""
        before = self.polls[-1].last_due_at if self.polls else None
        found = Poll(
            system_id=self.id, due_at=at, last_due_at=at, previous_due_at=before, interval_seconds=interval_seconds,
            outcome=outcome, started_at=at, finished_at=at, s3_source_key=key,
            reason="timeout" if outcome == "failed" else None,
        )  # fmt: skip
        self.polls.append(found)

    @property
    def raw_files(self) -> dict[str, bytes]:
        """All raw files by key."""
        paths = sorted(self._root.glob("raw/dt=*/*"))
        return {path.relative_to(self.folder / "data/lake").as_posix(): path.read_bytes() for path in paths}

    @property
    def database(self) -> Path:
        """The published database."""
        return self.folder / "data/analytics.duckdb"

    def publish(self) -> None:
        """Process what is new, and publish; as if by a new process each time."""
        for day in {poll.day for poll in self.polls}:
            path = self._root / f"polls/dt={day}/polls_{day:%Y%m%d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_parquet(poll for poll in self.polls if poll.day == day))
        result = CliRunner().invoke(app, ["backfill", "--config", str(self._config)])
        assert result.exit_code == 0, result.output

    def rebuild(self) -> None:
        """Lose all but the raw files and the polls, and publish."""
        for path in (*self._root.glob("*"), *(self.folder / "data").glob("*")):
            if path.name in ("raw", "polls", "lake"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.publish()

    def findings(self) -> list[Any]:
        """What `bikeflow verify` finds, after parsing every raw file again."""
        result = CliRunner().invoke(app, ["verify", "--full", "--json", "--config", str(self._config)])
        found: list[Any] = json.loads(result.stdout)["findings"]
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What a reader gets."""
        with self.reading() as reader:
            return reader.execute(f"USE analytics; {sql}").fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Queries within share a connection: to open one takes longer than most of them. Nothing is published here."""
        if self._reader is not None:
            yield self._reader
            return
        with contextlib.closing(duckdb.connect(self.database, read_only=True)) as reader:
            self._reader = reader
            try:
                yield reader
            finally:
                self._reader = None

    def keyed(self, sql: str, keys: int = 1) -> dict[Any, tuple[Any, ...]]:
        """The rows of a query by their first columns, each of which must be there once."""
        rows = self.query(sql)
        found = {row[0] if keys == 1 else row[:keys]: row[keys:] for row in rows}
        assert len(found) == len(rows)
        return found

    @cached_property
    def read(self) -> list[RawFile]:
        """All raw files, read by plain Python: as they are when this is first asked for."""
        root = self.folder / "data/lake"
        return [read_raw(key, data, (root / key).stat().st_mtime) for key, data in self.raw_files.items()]

    def coverage(self) -> list[expected.Interval]:
        """From when to when the state is known or not, why not, and who tells; by plain Python."""
        now = _naive(dt.datetime.now(dt.UTC))
        polls = [{field.name: _naive(getattr(poll, field.name)) for field in fields(Poll)} for poll in self.polls]
        files = [
            {"date": file.folder, "file_timestamp": file.time, "s3_source_key": file.key}
            for file in self.read
            if file.records and file.time <= now
        ]
        return expected.coverage(polls, files)

    def life(self) -> Life:
        """All that is known of the stations, by plain Python."""
        coverage = Coverage.of(row[:3] for row in self.coverage())
        now = microseconds(dt.datetime.now(dt.UTC))
        return lived((file.snapshot for file in self.read), coverage, self.zone, now)

    def density(self) -> dict[tuple[str, int], dict[str, object]]:
        """The bikes in the grid's cells by hour, by plain Python."""
        coverage = Coverage.of(row[:3] for row in self.coverage())
        listings = [file.listing(is_everywhere=self.format == "gbfs") for file in self.read]
        return station_density_hourly(listings, coverage, self.zone)


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value
