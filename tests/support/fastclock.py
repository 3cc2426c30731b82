"""A clock that runs faster, for whole processes: what they do in a day takes an hour.

All processes with the same clock agree on the time, on times of files, and on the ends of waits. It is made of a
preloaded library of our own (`fastclock.c`): libfaketime (0.9.10) leaves out what Python's threads wait with
(`sem_clockwait`), makes DuckDB's threads wait too long (`sem_timedwait`), and lets files keep their real times.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FastClock:
    """Begins at `begin` when it is made, and runs `factor` times as fast as the real one."""

    library: Path
    factor: int
    begin: dt.datetime
    _began_ns: int = field(default_factory=time.time_ns)
    _monotonic_ns: int = field(default_factory=lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a process that has this clock."""
        begin_ns = int(self.begin.timestamp()) * 1_000_000_000
        return {
            "LD_PRELOAD": str(self.library),
            "FASTCLOCK": f"{self.factor} {self._began_ns} {begin_ns} {self._monotonic_ns}",
        }

    def now(self) -> dt.datetime:
        """What it says; this process's own clocks are the real ones."""
        return self.begin + dt.timedelta(seconds=(time.time_ns() - self._began_ns) / 1e9 * self.factor)

    def real_seconds_until(self, moment: dt.datetime) -> float:
        """How long it is until a time of this clock; 0 when it is over."""
        return max((moment - self.now()).total_seconds() / self.factor, 0.0)
