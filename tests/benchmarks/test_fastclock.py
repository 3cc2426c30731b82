"""Processes with a fast clock agree on the time, wait as much shorter, and know the times of their files by it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bikeflow.core.model import UTC
from tests.support.fastclock import FastClock
from tests.support.preload import built

FACTOR = 600
BEGIN = dt.datetime(2030, 3, 6, 18, tzinfo=UTC)
WAIT_SECONDS = 300
PROGRAM = """
import asyncio, json, os, pathlib, select, sqlite3, sys, threading, time
import duckdb

def seconds(wait):
    before = time.time(), time.monotonic()
    wait()
    return time.time() - before[0], time.monotonic() - before[1]

def age_of_new_file():
    now, file = time.time_ns(), pathlib.Path("file")
    file.write_text("now")
    status = file.stat()
    os.utime("file", ns=(now, now))
    return (status.st_mtime_ns - now) / 1e9, (file.stat().st_mtime_ns - now) / 1e9

async def waited_for_nothing():
    await asyncio.wait([asyncio.create_task(asyncio.sleep(1e6))], timeout=WAIT)

WAIT = float(sys.argv[1])
print(json.dumps({
    "now": [time.time(), duckdb.sql("SELECT epoch(get_current_timestamp())").fetchone()[0],
            sqlite3.connect(":memory:").execute("SELECT unixepoch()").fetchone()[0]],
    "waits": [seconds(lambda: asyncio.run(asyncio.sleep(WAIT))),
              seconds(lambda: asyncio.run(waited_for_nothing())),
              seconds(lambda: threading.Event().wait(WAIT)),
              seconds(lambda: select.select([], [], [], WAIT)),
              seconds(lambda: time.sleep(WAIT))],
    "cpu": time.process_time(),
    "file": age_of_new_file(),
    "old": os.stat(sys.executable).st_mtime,
}))
"""


@pytest.fixture
def clock(tmp_path: Path) -> FastClock:
    """One that has just begun."""
    library = built("fastclock.c", tmp_path)
    if library is None:
        pytest.skip("needs Linux and a C compiler (cc)")
    return FastClock(library, FACTOR, BEGIN)


def test_a_process_lives_by_the_clock(tmp_path: Path, clock: FastClock) -> None:
    before = clock.now()
    program = [sys.executable, "-c", PROGRAM, str(WAIT_SECONDS)]
    told = json.loads(subprocess.check_output(program, cwd=tmp_path, env={**os.environ, **clock.variables}))
    after = clock.now()
    assert all(before.timestamp() - 1 <= moment <= after.timestamp() for moment in told["now"])
    assert all(seconds > WAIT_SECONDS - 0.01 for both in told["waits"] for seconds in both)
    assert sum(told["waits"][0]) <= 2 * (after - before).total_seconds()
    assert told["cpu"] < (after - before).total_seconds() / FACTOR, "CPU time is real"
    written, set_back = told["file"]
    assert -FACTOR / 50 <= written <= (after - before).total_seconds(), "the kernel's clock ticks"
    assert abs(set_back) < 1e-6
    assert told["old"] == Path(sys.executable).stat().st_mtime


def test_two_processes_agree(clock: FastClock) -> None:
    program, times = [sys.executable, "-c", "import time; print(time.time())"], []
    for _ in range(2):
        times += [
            clock.now().timestamp(),
            float(subprocess.check_output(program, env={**os.environ, **clock.variables})),
        ]
    assert times == sorted(times)
    assert clock.real_seconds_until(BEGIN) == 0
    assert 0 < clock.real_seconds_until(BEGIN + dt.timedelta(days=1)) < 24 * 3600 / FACTOR
