"""A reader elsewhere: a plain DuckDB in another process, with a secret of its own and the bucket's database."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bikeflow.core.layout import Layout
from bikeflow.settings.sections import StorageSettings
from bikeflow.warehouse.bucket import httpfs_extension
from tests.support.s3server import S3Server

# Reads statements, one a line, and answers each with a line: rows as text, or the error.
READER = """
import json, sys, duckdb
connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
for line in sys.stdin:
    try:
        answer = [[str(value) for value in row] for row in connection.execute(json.loads(line)).fetchall()]
    except duckdb.Error as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """A plain DuckDB in another process, with the database attached as `bikes`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, sql: str) -> Any:
        """The rows as lists of texts, or the error as a text."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(sql).encode() + b"\n")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def reading(storage: StorageSettings, server: S3Server) -> AsyncIterator[Reader]:
    """Attach the database that is in the bucket now."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    reader = Reader(process)
    assert await reader.ask(f"LOAD '{httpfs_extension()}'") == []
    scheme, _, endpoint = server.endpoint_url.partition("://")
    secret = f"KEY_ID '{server.access_key_id}', SECRET '{server.secret_access_key}', REGION '{server.region}'"
    ssl = "true" if scheme == "https" else "false"
    await reader.ask(f"CREATE SECRET (TYPE s3, {secret}, ENDPOINT '{endpoint}', URL_STYLE 'path', USE_SSL {ssl})")
    await reader.ask("SET TimeZone = 'UTC'")
    attached = f"ATTACH 's3://{storage.bucket}/{Layout(storage.prefix).database}' AS bikes (READ_ONLY)"
    assert await reader.ask(attached) == []
    try:
        yield reader
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
