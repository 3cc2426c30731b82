"""The analytics database for readers elsewhere: in the bucket, over files in the bucket.

DuckDB reads a database in a bucket bit by bit and does not notice when it is replaced meanwhile: whoever has it open
would get a mixture. So this one holds views only, all of which is read at once when it is attached, and what they read
never changes: tables and recent segments are Parquet files with names of their own, which stay for an hour after the
last database that names them. Only the files of days that are sealed are read where they lie in the lake.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb

from bikeflow.concurrency import bounded_map
from bikeflow.errors import Transient
from bikeflow.layout import DAY_END, Layout
from bikeflow.model import ObjectInfo
from bikeflow.settings.sections import StorageSettings
from bikeflow.warehouse import bucket
from bikeflow.warehouse.documentation import Entry
from bikeflow.warehouse.files import disk_errors, remove
from bikeflow.warehouse.parts import FileList, halved, recent_sql, settled_sql, whole_sql
from bikeflow.warehouse.statements import MIRRORED, PARTS, SCHEMA, PublishedObject, published, quoted, shared, stamp
from bikeflow.warehouse.warehouse import Frozen, Warehouse
from bikeflow.warehouse.working import BLOCK_BYTES, first_line, transaction

RETAINED_SECONDS = 3_600.0
_PARALLEL_UPLOADS = 4
_SEALED = f"_{DAY_END:%H%M%S}"
CHANGING_DAYS = 2
"""So many of the newest days may change at any time: one that is under way, and one that is still to be sealed."""


class Bucket(Protocol):
    """What an upload needs of an object store."""

    def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """All objects below `prefix`."""
        ...

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """Create or replace one object at once."""
        ...

    async def delete(self, key: str) -> None:
        """Remove one object."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to lie in the bucket: files by key, URLs of the lists of files, of files without rows, and of tables."""

    objects: dict[str, Path]
    lists: dict[str, FileList]
    empty: dict[str, str]
    tables: dict[str, str]


class RemoteDatabase:
    """Uploads what the warehouse has published to `duckdb/analytics.duckdb`, and its files below `duckdb/files/`."""

    def __init__(self, store: Bucket, storage: StorageSettings, warehouse: Warehouse, directory: Path) -> None:
        self._store = store
        self._storage = storage
        self._layout = Layout(storage.prefix)
        self._warehouse = warehouse
        self._directory = directory
        self._present: set[str] = set()
        self._listed_at = -math.inf
        self._retired: dict[str, float] = {}

    async def export(self) -> dict[str, object]:
        """Upload the newest publication; returns what is to be logged. Raises Transient, Permanent.

        Does nothing before the first publication.
        """
        with disk_errors(), _database_errors(self._layout.database):
            plan = await asyncio.to_thread(self._plan)
            if plan is None:
                return {}
            if time.monotonic() - self._listed_at > RETAINED_SECONDS:
                # every now and then, as somebody else may have tidied up there
                pages = self._store.pages(self._layout.database_files)
                self._present = {info.key async for page in pages for info in page}
                self._listed_at = time.monotonic()
            absent = [key for key in plan.objects if key not in self._present]
            sizes = await bounded_map(lambda key: self._upload(key, plan.objects[key]), absent, _PARALLEL_UPLOADS)
            self._present.update(absent)
            database = await asyncio.to_thread(self._build, plan)
            await self._store.put(self._layout.database, database)
            await self._forget(plan.objects.keys())
        return {"files": len(absent), "bytes": sum(sizes) + len(database)}

    async def _upload(self, key: str, path: Path) -> int:
        data = await asyncio.to_thread(path.read_bytes)
        await self._store.put(key, data)
        return len(data)

    async def _forget(self, named: Collection[str]) -> None:
        """Delete what no database has named for a while."""
        now = time.monotonic()
        self._retired = {key: self._retired.get(key, now) for key in self._present.difference(named)}
        for key in [key for key, since in self._retired.items() if now - since > RETAINED_SECONDS]:
            await self._store.delete(key)
            self._present.discard(key)
            del self._retired[key]

    def _plan(self) -> _Plan | None:
        """Freeze what is published, and write its tables to files."""
        remove(self._directory)
        self._directory.mkdir(parents=True)
        frozen = self._warehouse.freeze(self._directory / "frozen.duckdb")
        if frozen is None:
            return None
        objects = {self._file_key(name, path): path for name, path in frozen.empty.items()}
        empty = {name: self._url(self._file_key(name, path)) for name, path in frozen.empty.items()}
        lists = {name: self._listed(name, frozen, objects) for name in frozen.files}
        tables = {}
        for name, path in self._tables(frozen.database):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            key = f"{self._layout.database_files}tables/{name}.{digest}.parquet"
            objects[key], tables[name] = path, self._url(key)
        return _Plan(objects, lists, empty, tables)

    def _listed(self, name: str, frozen: Frozen, objects: dict[str, Path]) -> FileList:
        """Where the files of a list are to be read; those that are to be uploaded for it are added to `objects`."""
        files = frozen.files[name]
        segments = Counter(_day(segment) for segment in files)
        changing = sorted(segments)[-CHANGING_DAYS:]

        def urls(segment: str) -> Iterator[str]:
            day = _day(segment)
            sealed = segment.endswith(_SEALED) and segments[day] == 1 and day not in changing
            if name == MIRRORED and sealed:
                yield self._url(f"{self._layout.layer('enhanced')}{segment}.parquet")
                return
            for path in files[segment]:
                key = self._file_key(name, path)
                objects[key] = path
                yield self._url(key)

        recent, settled = halved(files)
        return FileList(
            tuple(url for segment in recent for url in urls(segment)),
            tuple(url for segment in settled for url in urls(segment)),
        )

    def _tables(self, database: Path) -> Iterator[tuple[str, Path]]:
        """Each table of the frozen database, in a file."""
        with duckdb.connect(str(database), read_only=True, config=bucket.modest(self._directory)) as connection:
            for item in published():
                if item.kind == "TABLE":
                    path = self._directory / f"{item.name}.parquet"
                    source = f"FROM {SCHEMA}.{item.name}"
                    connection.execute(f"COPY ({source}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
                    yield item.name, path

    def _build(self, plan: _Plan) -> bytes:
        """The database of views; its file's content."""
        path = self._directory / "analytics.duckdb"
        with bucket.connect(self._directory / "builder.duckdb", self._storage) as connection:
            connection.execute(f"ATTACH {quoted(str(path))} AS published (BLOCK_SIZE {BLOCK_BYTES})")
            connection.execute(f"USE published; CREATE SCHEMA {SCHEMA}; CREATE SCHEMA {PARTS}")
            with transaction(connection) as run:
                views = (
                    *recent_sql(plan.lists, plan.empty),
                    *settled_sql(plan.lists, plan.empty),
                    *whole_sql(plan.lists),
                )
                for sql in (*shared(PARTS), *views):
                    run(sql)
                for item in published():
                    run(_view_sql(item, plan.tables))
                    run(Entry(item.name, "view", None, 0, None, item.comment, needs_files=True).comment_sql)
            connection.execute("USE builder; DETACH published")
        return path.read_bytes()

    def _file_key(self, name: str, path: Path) -> str:
        return f"{self._layout.database_files}{stamp()[:12]}/{name}/{path.parent.name}/{path.name}"

    def _url(self, key: str) -> str:
        return f"s3://{self._storage.bucket}/{key}"


@contextlib.contextmanager
def _database_errors(key: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise Transient(f"building the database for {key} failed: {first_line(error)}") from error


def _day(segment: str) -> str:
    return segment.partition("/")[0]


def _view_sql(item: PublishedObject, tables: Mapping[str, str]) -> str:
    if item.kind == "VIEW":
        return item.create_sql
    return f"CREATE VIEW {SCHEMA}.{item.name} AS FROM read_parquet({quoted(tables[item.name])})"
