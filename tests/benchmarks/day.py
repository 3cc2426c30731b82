"""A day of raw files, cold: a whole `bikeflow backfill` against what a user would write instead."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from pathlib import Path

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC
from bikeflow.simulator import NO_ODDITIES, City
from tests.benchmarks.measuring import Cost, Row, median, rounded, run

DAY = dt.datetime(2025, 6, 1, tzinfo=UTC)
FILES = 2880
PREFIX = "bike-data/gen_info/"
BASELINES = ("duckdb", "pyarrow", "pandas")


def write_day(folder: Path, midnight: dt.datetime = DAY, files: int = FILES, city: City | None = None) -> int:
    """Raw files of a simulated day (of some 750 lines each) below a local lake; returns the number of data lines."""
    city = city or City(7, stations=235, free_bikes=513, oddities=NO_ODDITIES)
    layout, lines = Layout(PREFIX), 0
    for number in range(files):
        at = midnight + dt.timedelta(seconds=number * 86_400 // files)
        path = folder / layout.raw_key(at)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = city.snapshot(at)
        path.write_text(text)
        lines += text.count("\n") - 1
    return lines


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Wall time, CPU and memory of each, the process's start included; ratios to the bare DuckDB statement."""
    lines = write_day(folder / "lake")
    raw = next((folder / "lake").glob("**/dt=*"))
    costs: dict[str, list[Cost]] = {"bikeflow": [], **{name: [] for name in BASELINES}}
    for _ in range(runs):
        for name in BASELINES:
            out = folder / f"{name}.parquet"
            costs[name].append(run([sys.executable, "-m", "tests.benchmarks.baselines", name, str(raw), str(out)]))
        _forget_results(folder)
        costs["bikeflow"].append(run([sys.executable, "-m", "bikeflow", "backfill", "--data-dir", str(folder)]))
    medians = {name: median(found) for name, found in costs.items()}
    return {
        "what": f"{FILES} raw files with {lines:,} lines; medians of {runs} runs, ratios to the DuckDB statement",
        "lines": lines,
        "rows": [_row(name, cost, medians["duckdb"], lines) for name, cost in medians.items()],
    }


def _row(name: str, cost: Cost, yardstick: Cost, lines: int) -> Row:
    return {
        "program": name,
        "wall_s": rounded(cost.wall),
        "wall_ratio": rounded(cost.wall / yardstick.wall),
        "cpu_s": rounded(cost.cpu),
        "peak_mb": round(cost.peak_mb),
        "rows_per_s": round(lines / cost.wall),
    }


def _forget_results(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lake" and path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".parquet" and path.is_file():
            path.unlink()
    for layer in ("enhanced", "processed", "dlq"):
        shutil.rmtree(folder / "lake/bike-data/gen_info" / layer, ignore_errors=True)
