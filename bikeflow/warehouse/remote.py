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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bikeflow.core.errors import Transient
from bikeflow.core.layout import Layout
from bikeflow.core.model import Segment
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.runtime.files import disk_errors, remove
from bikeflow.settings.sections import StorageSettings
from bikeflow.store.base import Store
from bikeflow.warehouse import bucket, opening
from bikeflow.warehouse.documentation import Entry
from bikeflow.warehouse.parquet import lacks_columns
from bikeflow.warehouse.parts import FileList, open_sql, sealed_sql, whole_sql
from bikeflow.warehouse.state import BLOCK_BYTES, first_line, transaction
from bikeflow.warehouse.statements import (
    COMPATIBLE,
    MIRRORED,
    PARTS,
    SCHEMA,
    PublishedObject,
    compatible,
    published,
    quoted,
    shared,
    stamp,
)
from bikeflow.warehouse.warehouse import Warehouse

RETAINED_SECONDS = 3_600.0
_PARALLEL_UPLOADS = 4
CHANGING_DAYS = 2
"""So many of the newest days may change at any time: one that is under way, and one that is still to be sealed."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to lie in the bucket: files by key; URLs of lists, of empty files, of files in the lake, of tables."""

    objects: dict[str, Path]
    lists: dict[str, FileList]
    empty: dict[str, str]
    in_lake: dict[tuple[str, bool], list[str]]
    tables: dict[str, str]


class RemoteDatabase:
    """Uploads what the warehouse has published to `duckdb/analytics.duckdb`, and its files below `duckdb/files/`."""

    def __init__(
        self,
        store: Store,
        storage: StorageSettings,
        layouts: Sequence[Layout],
        warehouse: Warehouse,
        directory: Path,
    ) -> None:
        self._store = store
        self._storage = storage
        self._layout = layouts[0]
        self._layouts = {layout.system_id: layout for layout in layouts}
        self._shown = warehouse.shown
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
        empty = {name: self._url(key) for name, key in zip(frozen.empty, objects, strict=True)}
        empty |= frozen.no_moved_rows
        in_lake, uploaded = self._parted(frozen.files)
        urls = {self._upload_of(MIRRORED, path, objects): path for path in uploaded}
        former = frozenset(url for url, path in urls.items() if lacks_columns(path))
        lists = {MIRRORED: FileList(open=tuple(urls), former=former)}
        for name, files in frozen.kept.items():
            newest_first = [files[partition] for partition in sorted(files, reverse=True)]
            lists[name] = FileList(sealed=tuple(self._upload_of(name, path, objects) for path in newest_first))
        for name, paths in frozen.moved.items():
            lists[name] = FileList(open=tuple(self._upload_of(name, path, objects) for path in paths))
        tables = {}
        for name, path in self._tables(frozen.database):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            key = f"{self._layout.database_files}tables/{name}.{digest}.parquet"
            objects[key], tables[name] = path, self._url(key)
        return _Plan(objects, lists, empty, in_lake, tables)

    def _parted(self, files: Mapping[Segment, Path]) -> tuple[dict[tuple[str, bool], list[str]], list[Path]]:
        """URLs of the sealed files that can be read where they lie in the lake, and all other files.

        The former by system, and by whether they lack columns.
        """
        in_lake: dict[tuple[str, bool], list[str]] = {}
        uploaded = []
        for system_id, layout in self._layouts.items():
            mine = sorted((segment for segment in files if segment.partition.system_id == system_id), reverse=True)
            segments = Counter(segment.partition.day for segment in mine)
            changing = sorted(segments)[-CHANGING_DAYS:]
            for segment in mine:
                day = segment.partition.day
                if segment.sealed and segments[day] == 1 and day not in changing:
                    group = system_id, lacks_columns(files[segment])
                    in_lake.setdefault(group, []).append(self._url(layout.segment_key("enhanced", segment)))
                else:
                    uploaded.append(files[segment])
        return in_lake, uploaded

    def _upload_of(self, name: str, path: Path, objects: dict[str, Path]) -> str:
        """The URL of a file that is to be uploaded: it is added to `objects`."""
        key = self._file_key(name, path)
        objects[key] = path
        return self._url(key)

    def _tables(self, database: Path) -> Iterator[tuple[str, Path]]:
        """Each table of the frozen database, in a file."""
        with opening.connect(str(database), read_only=True, config=bucket.modest(self._directory)) as connection:
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
            with transaction(connection) as run:
                run("USE published")
                for schema in (COMPATIBLE, PARTS):
                    run(f"CREATE SCHEMA {schema}")
                views = (
                    *open_sql(plan.lists, plan.empty),
                    *sealed_sql(plan.lists, plan.empty),
                    *whole_sql(plan.lists),
                    *_with_lake_sql(plan.in_lake),
                )
                for sql in (*shared(PARTS), *views):
                    run(sql)
                for item in (*published(), *compatible(self._shown)):
                    run(_view_sql(item, plan.tables))
                    run(
                        Entry(item.schema, item.name, "view", None, 0, None, item.comment, needs_files=True).comment_sql
                    )
            connection.execute("USE builder; DETACH published")
        return path.read_bytes()

    def _file_key(self, name: str, path: Path) -> str:
        relative = "/".join(path.parts[-3:])
        return f"{self._layout.database_files}{stamp()[:12]}/{name}/{relative}"

    def _url(self, key: str) -> str:
        return f"s3://{self._storage.bucket}/{key}"


@contextlib.contextmanager
def _database_errors(key: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise Transient(f"building the database for {key} failed: {first_line(error)}") from error


def _with_lake_sql(in_lake: Mapping[tuple[str, bool], Sequence[str]]) -> Iterator[str]:
    """What adds the files that lie in the lake, whose paths do not tell their system, to the view of all files."""
    if in_lake:
        parts = [f"FROM {PARTS}.{MIRRORED}_open", f"FROM {PARTS}.{MIRRORED}_sealed"]
        for (system_id, _), urls in in_lake.items():
            listed = f"[{', '.join(map(quoted, urls))}], hive_partitioning = true, hive_types = {{'dt': DATE}}"
            parts.append(f"SELECT *, dt + 1 AS next_dt, {quoted(system_id)} AS system_id FROM read_parquet({listed})")
        yield f"CREATE OR REPLACE VIEW {PARTS}.{MIRRORED} AS {' UNION ALL BY NAME '.join(parts)}"


def _view_sql(item: PublishedObject, tables: Mapping[str, str]) -> str:
    if item.kind == "VIEW":
        return item.create_sql
    return f"CREATE VIEW {item.schema}.{item.name} AS FROM read_parquet({quoted(tables[item.name])})"
