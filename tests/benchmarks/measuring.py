"""Whole processes measured by the operating system's own accounts."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.support.service import Service

NEWEST = "SELECT max(file_timestamp) FROM main.open_raw_files"
"""Whatever the clock says: a day that is under way has snapshots of later on, which are not the latest yet."""
LOOK_SECONDS = 0.01

Row = dict[str, str | float]
"""A line of a benchmark's table: figures by name, with the unit in it."""


@dataclass(frozen=True)
class Cost:
    """What a process came to: wall-clock and CPU seconds, peak memory of its largest process in MB."""

    wall: float
    cpu: float
    peak_mb: float


def run(command: Sequence[str]) -> Cost:
    """Run a command to its end; raises CalledProcessError when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    figures = [(cost.wall, cost.cpu, cost.peak_mb) for cost in costs]
    return Cost(*(statistics.median(column) for column in zip(*figures, strict=True)))


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a running process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory of a running process in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def proportional_mb(pid: int) -> float:
    """The same, with pages that are shared counted in part (PSS)."""
    return _rollup_mb(pid, "Pss")


def own_mb(pid: int) -> float:
    """Of that, what is no file's: the share of files, such as libraries, depends on who else has them in use."""
    return _rollup_mb(pid, "Pss_Anon")


def _rollup_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1000


def rounded(figure: float, digits: int = 2) -> float:
    """As precise as it is worth printing."""
    return round(figure, digits)


def put(path: Path, text: str) -> None:
    """A file that is there at once, and whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.replace(path)


async def visible(service: Service, at: dt.datetime) -> None:
    """Wait until the service has published the snapshot of this time, or a later one."""
    wanted = at.replace(tzinfo=None)
    while True:
        if service.process.returncode is not None:
            raise RuntimeError(service.log()[-2000:])
        if service.database.exists():
            with duckdb.connect(service.database, read_only=True) as connection:
                row = connection.execute(NEWEST).fetchone()
            if row and row[0] is not None and row[0] >= wanted:
                return
        await asyncio.sleep(LOOK_SECONDS)
