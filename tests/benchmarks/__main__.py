"""`python -m tests.benchmarks [--json] [--runs N] [NAME ...]`: print what was measured, as ratios in one run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import arrival, day, year

BENCHMARKS: dict[str, Callable[[Path, int], dict[str, object]]] = {
    "day": day.measure,
    "arrival": arrival.measure,
    "year": year.measure,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which ones (default: all)")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments.add_argument("--runs", type=int, default=3, help="runs of each command; medians are printed")
    given = arguments.parse_args()
    results = {}
    for name in given.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="bikeflow-bench-") as folder:
            results[name] = BENCHMARKS[name](Path(folder), given.runs)
    if given.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for name, result in results.items():
        print(f"\n{name}: {result['what']}")
        for row in result["rows"]:  # type: ignore[attr-defined]
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
