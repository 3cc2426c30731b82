"""`python -m tests.benchmarks [--json] [--runs N] [NAME ...]`: print what was measured, as ratios in one run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from bikeflow.runtime import log
from bikeflow.settings.sections import LogSettings
from tests.benchmarks import (
    arrival,
    day,
    flows,
    hours,
    idle,
    memory,
    parse,
    poll,
    segments,
    start,
    systems,
    uptime,
    world,
    year,
)
from tests.benchmarks.measuring import Row

BENCHMARKS: dict[str, Callable[[Path, int], dict[str, object]]] = {
    "day": day.measure,
    "arrival": arrival.measure,
    "parse": parse.measure,
    "poll": poll.measure,
    "idle": idle.measure,
    "hours": hours.measure,
    "segments": segments.measure,
    "start": start.measure,
    "memory": memory.measure,
    "systems": systems.measure,
    "uptime": uptime.measure,
    "world": world.measure,
    "year": year.measure,
}
DEFAULT = ("day", "arrival", "parse")
"""What takes some minutes in all; the others are asked for by name, or with `all`."""

TABLES = ("rows", "growth", "end")
"""What is printed of a benchmark's result, each as a table; some have the first only."""


def main() -> None:
    """Run the named benchmarks."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=_choices())
    arguments.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments.add_argument("--runs", type=int, default=3, help="runs of each command; medians are printed")
    arguments.add_argument("--systems", type=int, help="of world and hours: how many systems")
    arguments.add_argument("--minutes", type=float, help="of world: how long it runs")
    arguments.add_argument("--s3", action="store_true", help="of world: the lake lies on an S3 server (rclone)")
    arguments.add_argument("--hours", type=int, help="of hours: how many, in the service's own time")
    arguments.add_argument("--factor", type=int, help="of hours: how many times as fast its time runs")
    arguments.add_argument("--replay", type=Path, metavar="FOLDER", help="of flows: raw files, and the true trips")
    given = arguments.parse_args()
    log.configure(LogSettings(level="error"))
    benchmarks = BENCHMARKS | {
        "world": partial(world.measure, options=world.Options(**_given(given, "systems", "minutes", "s3"))),
        "hours": partial(hours.measure, options=hours.Options(**_given(given, "systems", "hours", "factor"))),
    }
    if given.replay is not None:
        benchmarks["flows"] = lambda folder, _: flows.measure(folder, given.replay)
    names = benchmarks if "all" in given.names else given.names or DEFAULT
    if unknown := set(names) - benchmarks.keys():
        known = ", ".join([*benchmarks, "flows (with --replay)"] if given.replay is None else benchmarks)
        arguments.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {known} and all")
    results = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="bikeflow-bench-") as folder:
            results[name] = benchmarks[name](Path(folder), given.runs)
    if given.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for name, result in results.items():
        print(f"\n{name}: {result['what']}")
        for table in TABLES:
            if rows := result.get(table):
                print_table(cast(list[Row], rows))


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _choices() -> str:
    return f"which ones of {', '.join(BENCHMARKS)}, flows, or all (default: {' '.join(DEFAULT)})"


def print_table(rows: list[Row]) -> None:
    """A line for each row; one that lacks a column leaves its place empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_shown(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # texts to the left, figures to the right
    texts = {name for name in names if any(isinstance(row.get(name), str) for row in rows)}
    for line in lines:
        aligned = [
            cell.ljust(width) if name in texts else cell.rjust(width)
            for name, cell, width in zip(names, line, widths, strict=True)
        ]
        print("  " + "  ".join(aligned).rstrip())


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,}"


if __name__ == "__main__":
    main()
