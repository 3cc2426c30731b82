"""The published database as commands open it: read-only, bounded, and with errors that say what to do."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bikeflow.cli import options

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from bikeflow.settings import Settings


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[DuckDBPyConnection]:
    """The published database, which other processes may use and the service replace meanwhile."""
    import duckdb

    from bikeflow.errors import BikeflowError
    from bikeflow.warehouse import published_path
    from bikeflow.warehouse.statements import SCHEMA

    path = published_path(settings.warehouse, settings.data_dir)
    if not path.exists():
        raise BikeflowError(f"there is no database at {path} yet; {options.start_hint(settings.data_dir)}")
    with tempfile.TemporaryDirectory(prefix="bikeflow-read-") as spill:
        try:
            connection = duckdb.connect(
                str(path),
                read_only=True,
                config={
                    "memory_limit": settings.warehouse.memory_limit,
                    "temp_directory": spill,
                    "autoinstall_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            raise BikeflowError(f"{brief(error)}\n`bikeflow refresh` rebuilds a damaged database") from error
        with connection:
            try:
                connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
                connection.execute(f"USE {SCHEMA}")
                yield connection
            except duckdb.Error as error:
                raise BikeflowError(brief(error)) from error


def brief(error: BaseException) -> str:
    """What DuckDB says, up to the statement that it quotes; what to do where files are missing."""
    text = str(error).strip().partition("\n\n")[0]
    if "No files found" not in text and "Cannot open file" not in text:
        return text
    return (
        f"{text.splitlines()[0]}\nsome views read files of data_dir; `bikeflow catalog` tells which work without them"
    )
