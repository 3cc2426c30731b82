"""`bikeflow run` as a real process: started, watched, signalled and killed by tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb

from bikeflow.settings.sections import StorageSettings
from tests.support import moving

PATIENCE_SECONDS = 120.0
"""Long enough for a machine that is busy with other things; whoever waits goes on at once when it is time."""


class Service:
    """A running service and what it leaves behind."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self.data_dir = data_dir
        self.process = process
        self.starved_seconds = 0.0
        """For how long its threads were ready to run and got no processor, from its start until it was told to stop."""
        self._log = log
        self._log_start = log_start

    @property
    def database(self) -> Path:
        """The published database."""
        return self.data_dir / "analytics.duckdb"

    async def url(self) -> str:
        """Where it answers over HTTP, without the last slash."""
        line = await self.logged("event=http_started")
        return line.rpartition("url=")[2].strip('"/ ')

    def log(self) -> str:
        """All that this process has logged so far; earlier ones wrote to the same file."""
        return self._log.read_bytes()[self._log_start :].decode()

    def has_started(self) -> bool:
        """Whether all roles run."""
        return "event=started" in self.log()

    def clear_log(self) -> None:
        """Forget what was logged; the process must have ended."""
        self._log.write_text("")

    async def logged(self, text: str) -> str:
        """Wait for a line that contains `text`; returns that line."""
        await self.until(lambda: text in self.log(), f"log line with {text!r}")
        return next(line for line in self.log().splitlines() if text in line)

    async def sees(self, sql: str, expected: object) -> None:
        """Wait until the published database answers so."""
        await self.until(lambda: self.query(sql) == expected, f"{sql} to give {expected}, not {self.query(sql)}")

    def query(self, sql: str) -> Any:
        """The first value of a query on the published database, or None where there is none yet."""
        if not self.database.exists():
            return None
        with duckdb.connect(self.database, read_only=True) as connection:
            row = connection.execute(sql).fetchone()
        return row and row[0]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; fails with the log when it does not come true or the process ends."""
        for _ in range(int(PATIENCE_SECONDS / 0.05)):
            if condition():
                return
            if self.process.returncode is not None:
                break
            await asyncio.sleep(0.05)
        raise AssertionError(f"waited for {what}; exit code {self.process.returncode}\n{self.log()}")

    async def told(self, event: str, count: int) -> list[str]:
        """Wait until an event was logged so often; gives all its lines."""

        def lines() -> list[str]:
            return [line for line in self.log().splitlines() if f"event={event} " in line]

        await self.until(lambda: len(lines()) >= count, f"{count} lines of {event}")
        return lines()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end; returns the exit code."""
        self.starved_seconds = starved_seconds(self.process.pid)
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)


def starved_seconds(pid: int) -> float:
    """For how long all threads of a process together were ready to run and got no processor; 0 where nobody counts."""
    waits = [path.read_text().split()[1] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, waits)) / 1e9


def environment(storage: StorageSettings | None) -> dict[str, str]:
    """The environment that makes a service use this storage."""
    if storage is None or storage.backend == "local":
        return {}
    return {
        "BIKEFLOW_STORAGE__BACKEND": "s3",
        "BIKEFLOW_STORAGE__BUCKET": storage.bucket,
        "BIKEFLOW_STORAGE__ENDPOINT_URL": storage.endpoint_url,
        "BIKEFLOW_STORAGE__REGION": storage.region,
        "BIKEFLOW_STORAGE__PREFIX": storage.prefix,
        "BIKEFLOW_STORAGE__ACCESS_KEY_ID": storage.access_key_id.get_secret_value(),
        "BIKEFLOW_STORAGE__SECRET_ACCESS_KEY": storage.secret_access_key.get_secret_value(),
    }


def configure(config: Path, values: Mapping[str, object]) -> None:
    """Write a configuration file with these values, by their flat names; `systems` is a list of tables."""
    tables = values.get("systems", ())
    assert isinstance(tables, Sequence)
    lines = _lines({key: value for key, value in values.items() if key != "systems"})
    for table in tables:
        lines += ["[[systems]]", *_lines(table)]
    config.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _lines(values: Mapping[str, object]) -> list[str]:
    return [f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}" for key, value in values.items()]


@asynccontextmanager
async def running(
    data_dir: Path,
    feed_url: str,
    *,
    storage: StorageSettings | None = None,
    settings: Mapping[str, object] | None = None,
    config: Path | None = None,
    variables: Mapping[str, str] | None = None,
    moved_rows: int | None = None,
) -> AsyncIterator[Service]:
    """Start the service; it is killed at the end if it still runs.

    With a `config` it is this file that configures it, which is written here and may be rewritten by `configure`. With
    `moved_rows`, rows of open days move to files after so many.
    """
    values = {
        **({} if settings and "systems" in settings else {"feed.url": feed_url}),
        "feed.interval_seconds": 1,
        "watcher.poll_seconds": 0.5,
        "http.listen": "127.0.0.1:0",
        **(settings or {}),
    }
    if config is None:
        values["data_dir"] = data_dir
        arguments = [argument for key, value in values.items() for argument in ("--set", f"{key}={value}")]
    else:
        configure(config, values | {"data_dir": data_dir})
        arguments = ["--config", str(config)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BIKEFLOW_", "S3_"))}
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    log = data_dir.parent / f"{data_dir.name}.log"
    program = ("-m", "bikeflow") if moved_rows is None else ("-P", moving.__file__, str(moved_rows))
    with log.open("ab") as stderr:
        log_start = stderr.tell()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, "run", *arguments, stdout=stderr, stderr=stderr,
            env={**clean, **environment(storage), **(variables or {})}, cwd=data_dir.parent,
        )  # fmt: skip
    service = Service(data_dir, process, log, log_start)
    try:
        yield service
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
