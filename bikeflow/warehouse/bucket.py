"""How DuckDB reaches the lake's bucket: the httpfs extension from its own package, and a secret that is never kept."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from bikeflow.core.errors import Permanent
from bikeflow.settings.sections import StorageSettings
from bikeflow.warehouse import opening
from bikeflow.warehouse.statements import quoted


def connect(database: Path, storage: StorageSettings) -> duckdb.DuckDBPyConnection:
    """A bounded DuckDB with `database` open that can read `s3://` addresses of the storage; raises duckdb.Error."""
    connection = opening.connect(str(database), config=modest(database.parent))
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute(f"LOAD {quoted(str(httpfs_extension()))}")
        if storage.ca_bundle is not None:
            connection.execute(f"SET ca_cert_file = {quoted(str(storage.ca_bundle))}")
        connection.execute(secret_sql(storage))
    except BaseException:
        connection.close()
        raise
    return connection


def modest(directory: Path) -> dict[str, str | bool | int | float | list[str]]:
    """How DuckDB is opened for work beside the refresher's: small, spilling below `directory`, off the network."""
    return {
        "threads": 1,
        "memory_limit": "256MB",
        "temp_directory": str(directory / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
    }


def httpfs_extension() -> Path:
    """The extension's file in the installed package; nothing is ever fetched from the network.

    Raises `Permanent` where that is made for another DuckDB.
    """
    found = importlib.util.find_spec("duckdb_extension_httpfs")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package duckdb-extension-httpfs is missing")
    root = Path(found.submodule_search_locations[0]) / "extensions"
    file = root / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    if not file.is_file():
        known = ", ".join(sorted(folder.name.removeprefix("v") for folder in root.iterdir()))
        raise Permanent(
            f'warehouse.mode = "s3" and "hybrid" need DuckDB {known}, for which duckdb-extension-httpfs is made;'
            f' this is {duckdb.__version__}: pip install "duckdb=={known}", or set warehouse.mode = "local"'
        )
    return file


def secret_sql(storage: StorageSettings) -> str:
    """The statement that lets a connection read the bucket for as long as it lives."""
    values = {
        "KEY_ID": storage.access_key_id.get_secret_value(),
        "SECRET": storage.secret_access_key.get_secret_value(),
        "REGION": storage.region or "us-east-1",
    }
    if storage.endpoint_url:
        endpoint = urlsplit(storage.endpoint_url)
        values |= {"ENDPOINT": endpoint.netloc + endpoint.path.rstrip("/"), "URL_STYLE": "path"}
    options = [f"{name} {quoted(value)}" for name, value in values.items()]
    if storage.endpoint_url.startswith("http://"):
        options.append("USE_SSL false")
    scope = quoted(f"s3://{storage.bucket}")
    return f"CREATE OR REPLACE TEMPORARY SECRET lake (TYPE s3, SCOPE {scope}, {', '.join(options)})"
