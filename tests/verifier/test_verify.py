"""`bikeflow verify` as an operator runs it: it finds every kind of damage, tells of it, and repairs it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bikeflow.verifier import lake
from bikeflow.verifier.report import Finding
from tests.faults.scenario import World, at
from tests.support.audits import repaired as repaired_lake
from tests.support.audits import verified
from tests.support.oracle import serving
from tests.support.service import PATIENCE_SECONDS, running

LAYER_GLOBS = ("lake/bike-data/gen_info/processed/all/*/*.parquet", "lake/bike-data/gen_info/enhanced/all/*/*.parquet")


def silent(_done: int, _total: int) -> None:
    """No progress."""


async def published(directory: Path) -> World:
    """A lake of two days, one of them sealed, with its database."""
    world = World(directory)
    async with world.opened(), world.process() as pipeline:
        for hour, minute, day in ((18, 0, 1), (18, 30, 1), (7, 0, 2)):
            await world.spool(pipeline, at(hour, minute, day))
        await world.settle(pipeline)
    return world


async def verify(data_dir: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `bikeflow verify --json`, or its last words."""
    command = [sys.executable, "-m", "bikeflow", "verify", "--data-dir", str(data_dir), "--json", *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    return process.returncode or 0, json.loads(output) if output else {"error": errors.decode().splitlines()[-1]}


def first(data_dir: Path, pattern: str) -> Path:
    """The first file that a pattern finds."""
    return min(data_dir.glob(pattern))


def altered_row(data_dir: Path) -> None:
    """One value is another one in both layers, with all counts and the footers as they were."""
    for pattern in LAYER_GLOBS:
        path = first(data_dir, pattern)
        table = pq.ParquetFile(path).read()
        column = table.schema.get_field_index("bikes")
        changed = table.set_column(column, table.schema.field("bikes"), pc.add(table["bikes"], 1).cast(pa.int64()))
        replace(path, changed)


def other_schema(data_dir: Path) -> None:
    """A column is gone from one layer."""
    path = first(data_dir, LAYER_GLOBS[0])
    replace(path, pq.ParquetFile(path).read().drop_columns(["pedelecs"]))


def replace(path: Path, table: pa.Table) -> None:
    """Give a Parquet file other rows; its footer goes on telling what it did."""
    provenance = {name: text for name, text in pq.read_metadata(path).metadata.items() if name.startswith(b"bikeflow.")}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(provenance)
    rewrite(path, sink.getvalue())


def rewrite(path: Path, data: bytes) -> None:
    """Give a file another content; the mirror's hard link keeps the old one."""
    hidden = path.with_name(f".{path.name}")
    hidden.write_bytes(data)
    hidden.replace(path)


def half_file(data_dir: Path) -> None:
    """A Parquet file lacks its end."""
    path = first(data_dir, LAYER_GLOBS[1])
    rewrite(path, path.read_bytes()[:-200])


def lost_letters(data_dir: Path) -> None:
    """The dead letters of a raw file are gone."""
    first(data_dir, "lake/bike-data/gen_info/dlq/dt=*/*.jsonl").unlink()


def garbled_letters(data_dir: Path) -> None:
    """They are there, but no JSON."""
    rewrite(first(data_dir, "lake/bike-data/gen_info/dlq/dt=*/*.jsonl"), b"{")


def doubled_file(data_dir: Path) -> None:
    """The file of a sealed day lies there once more, by the name of an hour's."""
    for pattern in LAYER_GLOBS:
        path = first(data_dir, pattern)
        path.with_name(path.name.replace("235959", "185959")).write_bytes(path.read_bytes())


def flipped_bit_in_the_mirror(data_dir: Path) -> None:
    """The copy has rotten; where it is a hard link, the lake's own file is not to go with it."""
    path = first(data_dir, "mirror/enhanced/*/dt=2*/*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    rewrite(path, bytes(data))


def lost_database(data_dir: Path) -> None:
    """The published database is gone."""
    (data_dir / "analytics.duckdb").unlink()


def garbled_database(data_dir: Path) -> None:
    """It is no database."""
    (data_dir / "analytics.duckdb").write_bytes(b"nothing" * 10_000)


def deleted_raw_file(data_dir: Path) -> None:
    """Somebody has deleted a raw file."""
    first(data_dir, "lake/bike-data/gen_info/raw/*/*.txt").unlink()


@dataclass(frozen=True)
class Damage:
    """What is done to the files, and of which kind a finding is."""

    work: Callable[[Path], None]
    kind: str


DAMAGES = [
    Damage(altered_row, "rows_differ"),
    Damage(other_schema, "wrong_parquet"),
    Damage(half_file, "unreadable_parquet"),
    Damage(lost_letters, "not_conserved"),
    Damage(garbled_letters, "unreadable_dead_letters"),
    Damage(doubled_file, "misplaced_parquet"),
    Damage(flipped_bit_in_the_mirror, "copy_differs"),
    Damage(lost_database, "database_missing"),
    Damage(garbled_database, "database_unreadable"),
    Damage(deleted_raw_file, "missing_raw"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.work.__name__)
async def test_damage_is_found_and_repaired(tmp_path: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "SETTLE_SECONDS", 0)
    world = await published(tmp_path)
    damage.work(tmp_path)
    report = await verified(world.settings, None)
    assert damage.kind in {item.kind for item in report.findings}
    report, found = await repaired_lake(world.settings, None)
    assert report.findings == []
    assert damage.kind in {item.kind for item in found}
    if damage.work is not deleted_raw_file:
        world.audit().assert_exactly_once()


async def test_only_what_is_found_twice_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await published(tmp_path)
    raw = first(tmp_path, "lake/bike-data/gen_info/raw/*/*.txt")
    content, audit, audits = raw.read_bytes(), lake.Verifier.again, 0
    raw.unlink()

    async def meanwhile(verifier: lake.Verifier, findings: list[Finding]) -> list[Finding]:
        nonlocal audits
        audits += 1
        raw.write_bytes(content)
        (tmp_path / "analytics.duckdb").unlink(missing_ok=True)
        return await audit(verifier, findings)

    monkeypatch.setattr(lake, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(lake.Verifier, "again", meanwhile)
    report = await verified(world.settings, None)
    assert (report.findings, audits) == ([], 1)
    report = await verified(world.settings, None)
    assert {item.kind for item in report.findings} == {"database_missing"}


def written_at(data_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.parquet")}


async def test_a_good_lake_is_proved_and_nothing_is_repaired(tmp_path: Path) -> None:
    await published(tmp_path)
    before = written_at(tmp_path)
    code, report = await verify(tmp_path, "--full", "--repair")
    assert (code, report["findings"], report["repaired"]) == (0, [], [])
    assert (report["raw_files"], report["parsed_again"], report["published"]) == (3, 3, 3)
    assert report["lines"] == report["rows"] + report["rejected"]
    code, report = await verify(tmp_path, "--sample", "1")
    assert code == 0
    assert report["parsed_again"] in (2, 3), "one of each day, and the one with dead letters"
    assert written_at(tmp_path) == before
    lost_database(tmp_path)
    assert (await verify(tmp_path))[0] == 1


async def test_while_the_service_runs_it_proves_but_repairs_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with serving() as oracle, running(data_dir, oracle.url, settings={"feed.interval_seconds": 1}) as service:
        await service.until(lambda: len(oracle.served) > 2, "snapshots")
        code, report = await verify(data_dir, "--full")
        assert (code, report["findings"]) == (0, [])
        code, report = await verify(data_dir, "--repair")
        assert code == 1
        assert report["error"].startswith(f"error: another bikeflow (process {service.process.pid}) ")
        assert await service.stop(signal.SIGTERM) == 0
