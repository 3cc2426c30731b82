"""What commands read, and never create: the published database, and the object store."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import duckdb

from bikeflow.cli import options
from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.settings import Settings
from bikeflow.store import Store, open_store
from bikeflow.warehouse import published_path
from bikeflow.warehouse.reading import named_files, restrict
from bikeflow.warehouse.statements import COMPATIBLE, SCHEMA, compatible, quoted

Result = TypeVar("Result")
_MISSING = re.compile(r'Cannot access file "(.+\.parquet)/\*\*/')
"""What DuckDB says of a file that it may read and that is gone: it looks for a directory of that name."""


def in_store(settings: Settings, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """What `work` gives, with the configured store; raises ConfigError where that is a local lake and there is none."""
    lake = settings.data_dir / "lake"
    if settings.storage.backend == "local" and not lake.is_dir():
        raise ConfigError(f"there is no lake at {lake} yet; {options.start_hint(settings.data_dir)}")

    async def run() -> Result:
        async with open_store(settings.storage, settings.data_dir) as store:
            return await work(store)

    return asyncio.run(run())


def existing_database(settings: Settings) -> Path:
    """Where the published database lies; raises BikeflowError where there is none."""
    path = published_path(settings.warehouse, settings.data_dir)
    if not path.exists():
        raise BikeflowError(f"there is no database at {path} yet; {options.start_hint(settings.data_dir)}")
    return path


@contextlib.contextmanager
def connected(settings: Settings, system_id: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published database, read-only, and no file but those that it names.

    Other processes may use it meanwhile, and the service may replace it.

    Names without a schema are those of one system: of `system_id`, or of the one that `wrm_analytics` shows. Raises
    ConfigError where there is no such system, and BikeflowError, which says what to do, for what DuckDB refuses.
    """
    options.chosen_systems(settings, system_id)
    path = existing_database(settings)
    with tempfile.TemporaryDirectory(prefix="bikeflow-read-") as spill:
        try:
            connection = duckdb.connect(
                ":memory:" if system_id else str(path),
                read_only=system_id is None,
                config={
                    "memory_limit": settings.warehouse.memory_limit,
                    "temp_directory": spill,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            raise BikeflowError(f"{_brief(error)}\n`bikeflow refresh` rebuilds a damaged database") from error
        with connection:
            try:
                connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
                if system_id is None:
                    connection.execute(f"SET search_path = '{COMPATIBLE},{SCHEMA}'")
                else:
                    _show_system(connection, path, system_id)
                restrict(connection, files=named_files(connection))
                yield connection
            except duckdb.Error as error:
                raise BikeflowError(_brief(error)) from error


def _show_system(connection: duckdb.DuckDBPyConnection, path: Path, system_id: str) -> None:
    """Attach the database, with views of this system in front of those in `wrm_analytics`."""
    connection.execute(f"ATTACH {quoted(str(path))} AS published (READ_ONLY); CREATE SCHEMA one_system")
    for view in compatible(system_id):
        sql = view.sql.replace(f"{COMPATIBLE}.", "one_system.").replace(f"FROM {SCHEMA}.", f"FROM published.{SCHEMA}.")
        connection.execute(sql)
    connection.execute(f"SET search_path = 'one_system,published.{COMPATIBLE},published.{SCHEMA}'")


def _brief(error: BaseException) -> str:
    """What DuckDB says, up to the statement that it quotes; what to do where files are missing."""
    text = str(error).strip().partition("\n\n")[0]
    if (missing := _MISSING.search(text)) is not None:
        text = f"No files found: {missing[1]}"
    if "No files found" not in text and "Cannot open file" not in text:
        return text
    return (
        f"{text.splitlines()[0]}\nsome views read files of data_dir; `bikeflow catalog` tells which work without them"
    )
