"""Opening DuckDB in a process that must go on."""

from __future__ import annotations

from pathlib import Path

import duckdb

from bikeflow.runtime.descriptors import need_spare

Config = dict[str, str | bool | int | float | list[str]]


def connect(
    database: Path | str = ":memory:", *, read_only: bool = False, config: Config | None = None
) -> duckdb.DuckDBPyConnection:
    """An instance of DuckDB; raises duckdb.Error, and OSError where file descriptors are short.

    DuckDB itself aborts the process where there is none left.
    """
    need_spare()
    return duckdb.connect(str(database), read_only=read_only, config=config or {})
