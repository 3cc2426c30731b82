"""How long a segment should be: what arrivals, their requests, refreshes and the day's sealing cost for each length."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
from collections import Counter
from pathlib import Path

from bikeflow.core.model import UTC, Event, RunFinished
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, ProcessingSettings
from tests.benchmarks.day import PREFIX, write_day
from tests.benchmarks.measuring import Row, rounded
from tests.support.pipelines import process_dirty, wrm_lane

LENGTHS = (15, 30, 60, 120)
FILES = 1440
"""One a minute."""
ARRIVALS = 120
"""The last of the day: whole segments of any of the lengths."""


def measure(folder: Path, runs: int) -> dict[str, object]:
    """CPU of this process in means of all arrivals, as each lies at another place in its segment."""
    del runs  # two hours say enough
    midnight = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=1)
    write_day(folder / "day", midnight, FILES)
    rows = [asyncio.run(_measured(folder, minutes)) for minutes in LENGTHS]
    return {"what": f"the last {ARRIVALS} arrivals of a day with one each minute, of 750 lines", "rows": rows}


async def _measured(folder: Path, minutes: int) -> Row:
    data_dir = folder / f"of-{minutes}"
    names = sorted(path.relative_to(folder / "day") for path in (folder / "day").glob("**/*.txt"))
    settings = Settings(
        data_dir=data_dir,
        feed=FeedSettings(url="http://127.0.0.1:9/"),
        processing=ProcessingSettings(segment_minutes=minutes),
    )
    async with open_pipeline(settings) as pipeline:
        for name in names[:-ARRIVALS]:
            _link(folder, data_dir, name)
        await pipeline.reconcile()
        arrivals = _Arrivals(pipeline)
        await process_dirty(pipeline)
        await pipeline.publish()
        first_build = arrivals.spent()
        requests, build, refresh = Counter(pipeline.shared.store.answered), list[float](), list[float]()
        written = 0
        for name in names[-ARRIVALS:]:
            _link(folder, data_dir, name)
            await wrm_lane(pipeline).reconciler.observe([await pipeline.shared.store.head(name.as_posix())])
            arrivals.spent()
            await process_dirty(pipeline)
            build.append(arrivals.spent())
            await pipeline.publish()
            refresh.append(arrivals.spent())
            written += sum(path.stat().st_size for path in arrivals.newest(data_dir))
        requests = Counter(pipeline.shared.store.answered) - requests
        objects = len([*data_dir.glob(f"lake/{PREFIX}*/all/*/*.parquet")])
        arrivals.spent()
        await wrm_lane(pipeline).reconciler.seal_finished_days(dt.timedelta(0), idle=True)
        await process_dirty(pipeline)
        sealing = arrivals.spent()
    return {
        "segment_minutes": minutes,
        "build_ms": round(statistics.fmean(build) * 1000),
        "build_max_ms": round(max(build) * 1000),
        "refresh_ms": round(statistics.fmean(refresh) * 1000),
        "requests": rounded((requests.total() - ARRIVALS) / ARRIVALS),
        "written_kb": round(written / ARRIVALS / 1000),
        "objects": objects,
        "first_build_s": rounded(first_build),
        "sealing_s": rounded(sealing),
    }


class _Arrivals:
    """Hands on what a run has told to the refresher, as the service does, and reads this process's clock."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._known: dict[Path, int] = {}
        self._used = time.process_time()
        pipeline.shared.events.subscribe(self._hear)

    def spent(self) -> float:
        """CPU seconds since the last call."""
        before, self._used = self._used, time.process_time()
        return self._used - before

    def newest(self, data_dir: Path) -> list[Path]:
        """The Parquet files that were written since the last call."""
        files = {path: path.stat().st_mtime_ns for path in data_dir.glob(f"lake/{PREFIX}*/all/*/*.parquet")}
        known, self._known = self._known, files
        return [path for path, changed in files.items() if known.get(path) != changed and known]

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._pipeline.shared.refresher.wake(event)


def _link(folder: Path, data_dir: Path, name: Path) -> None:
    target = data_dir / "lake" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(folder / "day" / name)
