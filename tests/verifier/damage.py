"""What can be done to a lake and its database behind bikeflow's back, for `test_damage`."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LAKE = "lake/bike-data/gen_info"
LAYERS = ("processed", "enhanced")
DAY = "dt=2025-05-12"
Work = Callable[[Path], object]


def parquet(data_dir: Path, layer: str = "enhanced") -> Path:
    """A layer's file of the day of three snapshots and a spoilt one."""
    (path,) = (data_dir / LAKE / layer / "all" / DAY).glob("*.parquet")
    return path


def parquet_folder(data_dir: Path) -> Path:
    """The folder of that day in the enhanced layer."""
    return data_dir / LAKE / "enhanced/all" / DAY


def raw(data_dir: Path) -> Path:
    """A raw file of that day whose lines are all good."""
    return data_dir / LAKE / "raw" / DAY / "wrm_stations_2025-05-12_18-20-13.txt"


def letters(data_dir: Path) -> Path:
    """The dead letters of the spoilt one."""
    (path,) = (data_dir / LAKE / "dlq" / DAY).glob("*.jsonl")
    return path


def rewrite(path: Path, data: bytes) -> None:
    """Give a file another content; its other hard links keep the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    hidden.write_bytes(data)
    hidden.replace(path)


def written(path: Path, table: pa.Table, footer: dict[bytes, bytes] | None = None) -> None:
    """Give a Parquet file other rows, or another footer."""
    told = footer or {name: text for name, text in pq.read_metadata(path).metadata.items() if b"bikeflow." in name}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(told)
    rewrite(path, sink.getvalue())


def rows(change: Callable[[pa.Table], pa.Table], *layers: str) -> Work:
    """Other rows in some layers, under the same footers."""

    def work(data_dir: Path) -> None:
        for layer in layers or LAYERS:
            path = parquet(data_dir, layer)
            written(path, change(pq.ParquetFile(path).read()))

    return work


def value(column: str, change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Callable[[pa.Table], pa.Table]:
    """The same rows with other values in a column."""

    def changed(table: pa.Table) -> pa.Table:
        if column not in table.column_names:
            return table
        position = table.schema.get_field_index(column)
        return table.set_column(position, table.schema.field(column), change(table[column]))

    return changed


def without_flags(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """No row has a flag."""
    return pa.chunked_array([pa.array([[]] * len(column), column.type)])


def one_more(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each number is greater by one."""
    return pc.add(column, 1).cast(column.type)


def footer(change: Callable[[list[dict[str, Any]]], object], *layers: str) -> Work:
    """Other records in the footers of some layers, over the same rows."""

    def work(data_dir: Path) -> None:
        for layer in layers or LAYERS:
            path = parquet(data_dir, layer)
            metadata = pq.read_metadata(path).metadata
            records = json.loads(metadata[b"bikeflow.files"])
            change(records)
            told = {name: text for name, text in metadata.items() if b"bikeflow." in name}
            told[b"bikeflow.files"] = json.dumps(records).encode()
            written(path, pq.ParquetFile(path).read(), told)

    return work


def record(**changes: Any) -> Work:
    """Other values in the record of one raw file; callables make them of the old ones."""

    def change(records: list[dict[str, Any]]) -> None:
        for name, new in changes.items():
            records[1][name] = new(records[1][name]) if callable(new) else new

    return footer(change)


def other_metadata(name: bytes, new: Callable[[bytes], bytes], *layers: str) -> Work:
    """Another text in the footers."""

    def work(data_dir: Path) -> None:
        for layer in layers or LAYERS:
            path = parquet(data_dir, layer)
            told = {key: text for key, text in pq.read_metadata(path).metadata.items() if b"bikeflow." in key}
            told[name] = new(told[name])
            written(path, pq.ParquetFile(path).read(), told)

    return work


def copied(target: str, *layers: str) -> Work:
    """Files lie there once more; `{layer}` in the path stands for the layer."""

    def work(data_dir: Path) -> None:
        for layer in layers or LAYERS:
            path = data_dir / LAKE / layer / "all" / target.format(layer=layer)
            rewrite(path, parquet(data_dir, layer).read_bytes())

    return work


def letter(change: Callable[[list[dict[str, Any]]], object]) -> Work:
    """Other dead letters."""

    def work(data_dir: Path) -> None:
        path = letters(data_dir)
        found = [json.loads(line) for line in path.read_text().splitlines()]
        change(found)
        rewrite(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in found).encode())

    return work


def letter_field(name: str, new: object) -> Work:
    """Another value in a field of the first letter."""
    return letter(lambda found: found[0].update({name: new}))


def sql(statement: str) -> Work:
    """The published database is changed in its place."""

    def work(data_dir: Path) -> None:
        with duckdb.connect(data_dir / "analytics.duckdb") as connection:
            connection.execute(statement)

    return work


def kept(name: str, change: str) -> Work:
    """A kept file has other rows."""

    def work(data_dir: Path) -> None:
        (path,) = (data_dir / "mirror/kept").glob(f"*/{name}/*/{DAY}/*.parquet")
        rewritten(path, change)

    return work


def rewritten(path: Path, change: str) -> None:
    """Let a Parquet file have other rows, by what follows REPLACE."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT * REPLACE ({change}) FROM '{path}') TO '{path}.new' (FORMAT parquet)")
    path.with_name(f"{path.name}.new").replace(path)


def moved(find: Callable[[Path], Path], target: Callable[[Path], Path]) -> Work:
    """A file lies elsewhere."""

    def work(data_dir: Path) -> None:
        path = find(data_dir)
        new = target(path)
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)

    return work


def raw_copied(target: str) -> Work:
    """A raw file lies there once more, below raw/."""

    def work(data_dir: Path) -> None:
        path = data_dir / LAKE / "raw" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(raw(data_dir), path)

    return work


def raw_text(change: Callable[[bytes], bytes]) -> Work:
    """A raw file has another content."""
    return lambda data_dir: rewrite(raw(data_dir), change(raw(data_dir).read_bytes()))


def cut(find: Callable[[Path], Path], target: str = "") -> Work:
    """A file lacks its end, in its place or under another name beside it."""

    def work(data_dir: Path) -> None:
        path = find(data_dir)
        rewrite(path.parent / target if target else path, path.read_bytes()[:-200])

    return work


def deleted(find: Callable[[Path], Path]) -> Work:
    """A file is gone."""
    return lambda data_dir: find(data_dir).unlink()


def mirrored(data_dir: Path) -> Path:
    """The mirror's copy of the day."""
    (path,) = (data_dir / "mirror/enhanced/system_id=wrm" / DAY).glob("*.parquet")
    return path


def flipped(find: Callable[[Path], Path]) -> Work:
    """A bit in the middle of a file."""

    def work(data_dir: Path) -> None:
        data = bytearray(find(data_dir).read_bytes())
        data[len(data) // 3] ^= 1
        rewrite(find(data_dir), bytes(data))

    return work


def renamed_folder(data_dir: Path) -> None:
    """A day's folder has the name of another day."""
    for layer in LAYERS:
        folder = data_dir / LAKE / layer / "all" / DAY
        folder.rename(folder.with_name("dt=2025-05-13"))
