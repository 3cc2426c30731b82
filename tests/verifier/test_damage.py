"""Every kind of damage that we could think of, on a lake of real snapshots: verify finds it, and repairs what it can.

`FULL` are those that only a fresh parse of raw files can tell, all others are found without one. The lake's damage is
looked for with no database beside it, so that nothing but the lake can tell.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from bikeflow.core.scope import Scope
from bikeflow.service.pipeline import open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, RulesSettings
from bikeflow.store import open_store
from bikeflow.verifier import Report, Verifier, lake, tables
from bikeflow.warehouse.reading import files_by_view
from tests.support.audits import repaired as repaired_lake
from tests.support.audits import verified
from tests.support.real import REAL, SNAPSHOTS
from tests.verifier import damage
from tests.verifier.damage import DAY, Work

STRAY = "all_{layer}_20250512_185959.parquet"

DAMAGES: dict[str, Work] = {
    "copy under the name of an hour": damage.copied(f"{DAY}/{STRAY}"),
    "copy under a name of its own": damage.copied(f"{DAY}/copy.parquet"),
    "copy in one layer": damage.copied(f"{DAY}/copy.parquet", "processed"),
    "copy in another day's folder": damage.copied("dt=2025-05-13/all_{layer}_20250512_235959.parquet"),
    "copy as another day's file": damage.copied("dt=2025-05-13/all_{layer}_20250513_235959.parquet"),
    "copy in a folder that is no day": damage.copied("dt=backup/all_{layer}_20250512_235959.parquet"),
    "copy in a deeper folder": damage.copied(f"{DAY}/old/all_{{layer}}_20250512_235959.parquet"),
    "copy above the folders": damage.copied("all_{layer}_20250512_235959.parquet"),
    "renamed file": damage.moved(damage.parquet, lambda path: path.with_name("renamed.parquet")),
    "renamed folder": damage.renamed_folder,
    "footer: another key": damage.record(key=lambda key: key.replace("18-20-13", "18-20-14")),
    "footer: another size": damage.record(size=lambda size: size + 1),
    "footer: another md5": damage.record(md5="0" * 32),
    "footer: more lines": damage.record(lines=lambda lines: lines + 1),
    "footer: more rows": damage.record(rows=lambda rows: rows + 1),
    "footer: more rejected": damage.record(rejected=lambda rejected: rejected + 1),
    "footer: more lines and rejected": damage.record(lines=lambda lines: lines + 1, rejected=lambda n: n + 1),
    "footer: impossible rules": damage.record(recipe="as I like it"),
    "footer: an invented record": damage.footer(
        lambda records: records.append({**records[-1], "key": records[-1]["key"].replace("18-50", "19-50")})
    ),
    "footer: a record that is gone": damage.footer(lambda records: records.pop()),
    "footer: a record twice": damage.footer(lambda records: records.append(records[-1])),
    "footer: records in another order": damage.footer(lambda records: records.reverse()),
    "footer: of one layer": damage.footer(lambda records: records[0].update(recipe="2 1.0 2.0"), "processed"),
    "footer: no JSON": damage.other_metadata(b"bikeflow.files", lambda t: t[:-1]),
    "footer: a record with a field too many": damage.footer(lambda records: records[0].update(colour="red")),
    "footer: no date": damage.other_metadata(b"bikeflow.segment", lambda t: b"today" + t[10:], "enhanced"),
    "footer: another start": damage.other_metadata(b"bikeflow.segment", lambda t: t.replace(b"00:00:00", b"23:00:00")),
    "footer: another day": damage.other_metadata(b"bikeflow.segment", lambda t: t.replace(b"05-12", b"05-13")),
    "footer: another version in one layer": damage.other_metadata(b"bikeflow.version", lambda _: b"9.9", "processed"),
    "letter: another key": damage.letter_field("source_key", "elsewhere"),
    "letter: another line": damage.letter_field("line_number", 77),
    "letter: another text": damage.letter_field("raw_line", "something else"),
    "letter: another column": damage.letter_field("column", "spaces"),
    "letter: another check": damage.letter_field("check", "unique"),
    "letter: another value": damage.letter_field("value", "0"),
    "letter: another message": damage.letter_field("message", "because"),
    "letter: no time": damage.letter_field("rejected_at", "yesterday"),
    "letter: a new field": damage.letter_field("colour", "red"),
    "letter: gone": damage.letter(lambda found: found.pop()),
    "letter: twice": damage.letter(lambda found: found.append(found[0])),
    "letter: one in the place of another": damage.letter(lambda found: found.__setitem__(1, found[0])),
    "letter: in another order": damage.letter(lambda found: found.reverse()),
    "letter: dropped without a count": damage.letter_field("check", "dropped"),
    "letters: gone": damage.deleted(damage.letters),
    "letters: half": damage.cut(damage.letters),
    "letters: another file's": damage.moved(
        damage.letters, lambda path: path.with_name(f"{damage.raw(Path()).stem}.jsonl")
    ),
    "rows: in another order": damage.rows(lambda table: table.take(list(reversed(range(table.num_rows))))),
    "rows: two change places": damage.rows(lambda table: table.take([1, 0, *range(2, table.num_rows)])),
    "rows: one gone": damage.rows(lambda table: table.slice(1)),
    "rows: one twice": damage.rows(lambda table: table.take([0, *range(table.num_rows)])),
    "rows: one in the place of another": damage.rows(lambda table: table.take([0, 0, *range(2, table.num_rows)])),
    "value: in one layer": damage.rows(damage.value("bikes", damage.one_more), "processed"),
    "value: in the other layer": damage.rows(damage.value("bikes", damage.one_more), "enhanced"),
    "raw: other content of as many lines": damage.raw_text(lambda data: data.replace(b",0,", b",1,", 1)),
    "raw: other content of the same size": damage.raw_text(lambda data: data.replace(b"51.1", b"51.2", 1)),
    "raw: one line less": damage.raw_text(lambda data: data[: data.rindex(b"\n", 0, -1) + 1]),
    "raw: emptied": damage.raw_text(lambda data: b""),
    "raw: deleted": damage.deleted(damage.raw),
    "raw: copy in another day's folder": damage.raw_copied(f"dt=2025-05-31/{SNAPSHOTS[1].name}"),
    "raw: copy in a deeper folder": damage.raw_copied(f"{DAY}/old/{SNAPSHOTS[1].name}"),
    "raw: copy in a folder that is no day": damage.raw_copied(f"dt=backup/{SNAPSHOTS[1].name}"),
    "raw: copy above the folders": damage.raw_copied(SNAPSHOTS[1].name),
    "raw: copy with another ending": damage.raw_copied(f"{DAY}/snapshot.csv"),
    "raw: moved into a deeper folder": damage.moved(damage.raw, lambda path: path.parent / "old" / path.name),
    "cut: file": damage.cut(damage.parquet),
    "cut: stray with the name of an hour": damage.cut(damage.parquet, STRAY.format(layer="enhanced")),
    "cut: stray in a folder that is no day": damage.cut(
        damage.parquet, "../dt=backup/all_enhanced_20250512_235959.parquet"
    ),
    "gone: file of one layer": damage.deleted(damage.parquet),
    "schema: a column less": damage.rows(lambda table: table.drop_columns(["pedelecs"]), "processed"),
    "schema: another type": damage.rows(
        lambda t: t.set_column(t.schema.get_field_index("bikes"), "bikes", t["bikes"].cast("int32")), "enhanced"
    ),
}
FULL: dict[str, Work] = {
    "value: in both layers": damage.rows(damage.value("bikes", damage.one_more)),
    "value: a column of the enhanced layer": damage.rows(
        damage.value("battery_level", lambda column: column.fill_null(50))
    ),
    "flags: gone": damage.rows(damage.value("quality_flags", damage.without_flags)),
    "footer: other rules": damage.record(recipe="2 10.0 11.0 16.75 17.25 300.0 86400.0"),
}
PUBLISHED: dict[str, Work] = {
    "kept: changes of stations": damage.kept("station_changes", "bikes + 1 AS bikes"),
    "kept: changes of bikes": damage.kept("bike_changes", "lat + 1 AS lat"),
    "kept: raw files": damage.kept("raw_files", "'0' AS md5"),
    "kept: flags of raw files": damage.kept("raw_files", "flagged + 1 AS flagged"),
    "kept: gone": damage.deleted(
        lambda data_dir: next((data_dir / "mirror/kept").glob(f"*/station_changes/*/{DAY}/*.parquet"))
    ),
    "mirror: a bit": damage.flipped(damage.mirrored),
    "mirror: cut": damage.cut(damage.mirrored),
    "mirror: gone": damage.deleted(damage.mirrored),
    "table: current rows": damage.sql("UPDATE current_rows SET bikes = bikes + 1"),
    "table: a current row gone": damage.sql("DELETE FROM current_rows WHERE station_id LIKE 'fb%'"),
    "table: what was seen of stations": damage.sql("UPDATE station_spans SET observations = observations + 1"),
    "table: sums over stations": damage.sql("UPDATE station_totals SET bikes_us = bikes_us + 1e9"),
    "table: partitions": damage.sql('UPDATE pipeline_partitions SET "lines" = "lines" + 1'),
    "table: runs": damage.sql('UPDATE pipeline_runs SET "rows" = 0'),
    "table: an invented run": damage.sql(
        "INSERT INTO pipeline_runs SELECT * REPLACE ('x' AS run_id) FROM pipeline_runs ORDER BY started_at DESC LIMIT 1"
    ),
    "table: runs gone": damage.sql("DELETE FROM pipeline_runs"),
    "table: files without rows": damage.sql(
        "UPDATE pipeline_files_without_rows SET md5 = '0'; UPDATE pipeline_files_without_rows SET size_bytes = 5"
    ),
    "table: lineage": damage.sql("UPDATE lineage SET source = 'heaven' WHERE object = 'station_summary'"),
    "table: catalog": damage.sql("DELETE FROM catalog WHERE column_name = 'bikes'"),
    "table: publication": damage.sql('UPDATE publication SET "rows" = 1'),
    "view: another definition": damage.sql(
        "CREATE OR REPLACE VIEW bikes_latest AS SELECT * FROM stations_latest WHERE false"
    ),
    "view: history without a row": damage.sql(
        "CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_enhanced_data AS"
        " FROM wrm_analytics.wrm_history WHERE bikes < 5"
    ),
    "view: history of another system": damage.sql(
        "CREATE OR REPLACE VIEW history AS SELECT * REPLACE ('other' AS system_id) FROM parts.files"
    ),
    "database: gone": lambda data_dir: (data_dir / "analytics.duckdb").unlink(),
    "database: none": lambda data_dir: (data_dir / "analytics.duckdb").write_bytes(b"nothing" * 10_000),
}
IRREPARABLE = {name for name in DAMAGES if name.startswith("raw: copy") or name == "raw: moved into a deeper folder"}
"""Raw files are never touched: what lies in the wrong place is told until somebody moves it."""


def settings_for(data_dir: Path, rules: RulesSettings | None = None) -> Settings:
    return Settings(data_dir=data_dir, feed=FeedSettings(url="http://127.0.0.1:9/"), rules=rules or RulesSettings())


async def process(settings: Settings) -> None:
    """What the service would do: reconcile, process, seal, publish."""
    async with open_pipeline(settings) as pipeline:
        await pipeline.reconcile()
        await pipeline.process(lambda day: True)
        await pipeline.shared.refresher.refresh_once()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four real snapshots, one more with bad lines, and one day of which nothing can be read; all published."""
    data_dir = tmp_path_factory.mktemp("damage") / "whole"
    shutil.copytree(REAL, data_dir / damage.LAKE / "raw")
    folder = data_dir / damage.LAKE / "raw" / DAY
    lines = (folder / SNAPSHOTS[0].name).read_text().splitlines(keepends=True)
    lines[3:5] = [lines[3].replace(",true,", ",maybe,"), lines[4].replace(",51.", ",191.")]
    (folder / "wrm_stations_2025-05-12_18-50-06.txt").write_text("".join(lines))
    unread = folder.with_name("dt=2025-05-20")
    unread.mkdir()
    (unread / "wrm_stations_2025-05-20_10-00-00.txt").write_text("<html>503</html>\n")
    asyncio.run(process(settings_for(data_dir)))
    return data_dir


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is at work: nothing needs time to settle."""
    monkeypatch.setattr(lake, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(tables, "_SETTLED", dt.timedelta())


@pytest.fixture
async def copy(whole: Path, tmp_path: Path) -> AsyncIterator[Path]:
    """A lake of one's own, to be damaged."""
    data_dir = tmp_path / "data"
    await asyncio.to_thread(shutil.copytree, whole, data_dir)
    yield data_dir
    await asyncio.to_thread(shutil.rmtree, data_dir)


@pytest.fixture
async def in_place(whole: Path, tmp_path: Path) -> AsyncIterator[Path]:
    """The lake itself, to be damaged: its database names its files where they are. It is put back afterwards."""
    await asyncio.to_thread(shutil.copytree, whole, tmp_path / "kept")
    yield whole
    await asyncio.to_thread(shutil.rmtree, whole)
    shutil.move(tmp_path / "kept", whole)


async def looked_at(data_dir: Path, sample: int | None = 0, rules: RulesSettings | None = None) -> Report:
    """The lake alone, with no database beside it."""
    settings = settings_for(data_dir, rules)
    async with open_store(settings.storage, data_dir) as store:
        return await Verifier(store, settings.all_systems, sample=sample).verify(Scope())


async def repaired(data_dir: Path) -> Report:
    """What `--repair` leaves, and what a second look finds that parses all again."""
    report, _ = await repaired_lake(settings_for(data_dir))
    report.findings += (await looked_at(data_dir, None)).findings
    return report


def told(report: Report) -> list[str]:
    return [f"{item.kind}: {item.key}: {item.message}" for item in report.findings]


async def test_the_whole_lake_is_proved(whole: Path) -> None:
    report = await verified(settings_for(whole), None)
    assert told(report) == []
    assert (report.raw_files, report.parsed_again, report.rejected, report.unreadable_files) == (6, 6, 2, 1)
    assert report.tables > 10
    assert report.proved


@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found_without_parsing(copy: Path, name: str) -> None:
    DAMAGES[name](copy)
    report = await looked_at(copy)
    assert told(report) != []
    assert not report.proved


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_repaired(copy: Path, name: str) -> None:
    DAMAGES[name](copy)
    after = await repaired(copy)
    assert (told(after) == []) == (name not in IRREPARABLE), told(after)


@pytest.mark.parametrize("name", FULL)
async def test_damage_that_only_a_fresh_parse_can_tell_is_found_by_one(copy: Path, name: str) -> None:
    FULL[name](copy)
    by_default = {item.key for item in (await looked_at(copy)).findings}
    assert all(key.endswith("18-50-06.txt") for key in by_default), "that with dead letters is always parsed again"
    assert told(await looked_at(copy, None)) != []
    found = (await looked_at(copy, None)).findings
    assert {item.kind for item in found} == {"rows_differ"}
    await repaired_lake(settings_for(copy), None)
    assert told(await looked_at(copy, None)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
async def test_damage_to_what_is_published_is_found_and_repaired(in_place: Path, name: str) -> None:
    PUBLISHED[name](in_place)
    assert {item.kind.partition("_")[0] for item in (await verified(settings_for(in_place))).findings} & {
        "copy",
        "database",
    }
    after, found = await repaired_lake(settings_for(in_place))
    assert {item.kind.partition("_")[0] for item in found} in ({"copy"}, {"database"}, {"copy", "database"})
    assert told(after) + told(await looked_at(in_place, None)) == []


@pytest.fixture
async def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four real snapshots as if they were of today: rows of an open day lie in files."""
    data_dir, now = tmp_path / "data", dt.datetime.now(dt.UTC)
    with monkeypatch.context() as patch:
        patch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", 1)
        for number, snapshot in enumerate(SNAPSHOTS):
            taken_at = now - dt.timedelta(minutes=len(SNAPSHOTS) - number)
            raw = data_dir / damage.LAKE / "raw" / f"dt={taken_at:%Y-%m-%d}"
            raw.mkdir(parents=True, exist_ok=True)
            shutil.copy(snapshot, raw / f"wrm_stations_{taken_at:%Y-%m-%d_%H-%M-%S}.txt")
            await process(settings_for(data_dir))
    return data_dir


@pytest.mark.parametrize(
    ("name", "change"),
    [("station_changes", "bikes + 1 AS bikes"), ("bike_changes", "lat + 1 AS lat"), ("raw_files", "'0' AS md5")],
)
async def test_rows_of_open_days_in_files_are_proved_and_repaired(moved: Path, name: str, change: str) -> None:
    settings = settings_for(moved)
    assert told(await verified(settings, None)) == []
    with duckdb.connect(moved / "analytics.duckdb", read_only=True) as reader:
        (*_, oldest) = files_by_view(reader)[f"moved_{name}_open"].values()
    damage.rewritten(Path(oldest), change)
    assert {item.kind for item in (await verified(settings, None)).findings} == {"database_differs"}
    left, _ = await repaired_lake(settings)
    assert told(left) == []
