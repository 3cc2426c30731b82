"""Parsing alone, on one thread: all rules and dead letters, against reading the same files with pyarrow.csv."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bikeflow.core.model import ObjectInfo, RawFile
from bikeflow.feeds.base import RawContent
from bikeflow.feeds.wrm.parsing import parse_files
from bikeflow.settings.sections import RulesSettings
from tests.benchmarks.baselines import read_with_pyarrow
from tests.benchmarks.day import DAY, PREFIX, write_day
from tests.benchmarks.measuring import Row, rounded
from tests.support.wrm import wrm_layout

FILES = 600
BATCH = 60


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Wall-clock and CPU seconds from files on disk to typed rows in memory."""
    lines = write_day(folder / "lake", files=FILES)
    raw = next((folder / "lake").glob("**/dt=*"))
    programs: dict[str, Callable[[], int]] = {
        "pyarrow": lambda: int(read_with_pyarrow(raw).num_rows),
        "bikeflow": lambda: _parse(folder / "lake", sorted(raw.glob("*.txt"))),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, program in programs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            assert program() == lines
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = {
        name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in seconds.items()
    }
    rows: list[Row] = [
        {
            "program": name,
            "wall_s": rounded(wall),
            "wall_ratio": rounded(wall / medians["pyarrow"][0]),
            "cpu_s": rounded(cpu),
            "cpu_ratio": rounded(cpu / medians["pyarrow"][1]),
            "rows_per_s": round(lines / wall),
        }
        for name, (wall, cpu) in medians.items()
    ]
    return {
        "what": f"{FILES} raw files with {lines:,} lines to typed rows; medians of {runs} runs, ratios to pyarrow.csv",
        "lines": lines,
        "rows": rows,
    }


def _parse(lake: Path, paths: Sequence[Path]) -> int:
    rows = 0
    for start in range(0, len(paths), BATCH):
        batch = [
            _raw_text(path.relative_to(lake).as_posix(), path.read_bytes()) for path in paths[start : start + BATCH]
        ]
        rows += sum(item.rows for item in parse_files(batch, RulesSettings()))
    return rows


def _raw_text(key: str, data: bytes) -> RawContent:
    raw = wrm_layout(PREFIX).raw_file(ObjectInfo(key, len(data), "", DAY))
    assert isinstance(raw, RawFile)
    return RawContent(raw, "", data)
