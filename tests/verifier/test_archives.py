"""What is no damage: archives of former versions and of other rules, other objects; and what a repair never deletes."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from bikeflow.feeds.recipe import recipe_of, rules_of
from bikeflow.settings.sections import RulesSettings, StorageSettings
from bikeflow.verifier import lake
from tests.support.real import REAL, SNAPSHOTS
from tests.support.road import open_road
from tests.verifier import damage
from tests.verifier.test_damage import looked_at, process, repaired, settings_for, told

FORMER = Path(__file__).parents[1] / "data/lake_of_7458407"
"""Both layers' files of the four real snapshots, as commit 7458407 has written them."""
ELSEWHERE = RulesSettings(lat_min=52, lat_max=53)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "SETTLE_SECONDS", 0)


@pytest.fixture
async def real(tmp_path: Path) -> Path:
    """A lake of the real snapshots, not processed yet."""
    await asyncio.to_thread(shutil.copytree, REAL, tmp_path / damage.LAKE / "raw")
    return tmp_path


def parquet_files(data_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (data_dir / damage.LAKE).rglob("*.parquet")}


async def test_an_archive_of_the_version_before_is_taken_up_without_parsing_or_writing_it_again(real: Path) -> None:
    await asyncio.to_thread(shutil.copytree, FORMER, real / damage.LAKE, dirs_exist_ok=True)
    before = await asyncio.to_thread(parquet_files, real)
    async with open_road(StorageSettings(), real) as road:
        assert await road.process() == []
        assert road.processor.files_parsed == 0
    await process(settings_for(real))
    assert await asyncio.to_thread(parquet_files, real) == before
    report = await looked_at(real, None)
    assert (told(report), report.parsed_again, report.other_rules) == ([], 4, 4)


async def test_all_but_the_flags_of_such_an_archive_is_compared(real: Path) -> None:
    await asyncio.to_thread(shutil.copytree, FORMER, real / damage.LAKE, dirs_exist_ok=True)
    await process(settings_for(real))
    await asyncio.to_thread(damage.rows(damage.value("quality_flags", damage.without_flags)), real)
    assert told(await looked_at(real, None)) == []
    await asyncio.to_thread(damage.rows(damage.value("bikes", damage.one_more)), real)
    assert {item.kind for item in (await looked_at(real, None)).findings} == {"rows_differ"}


async def test_days_that_were_written_under_other_rules_are_told_apart_from_damage(real: Path) -> None:
    await process(settings_for(real))
    report = await looked_at(real, None, ELSEWHERE)
    assert (told(report), report.other_rules, report.proved) == ([], 4, True)
    assert (await looked_at(real, None)).other_rules == 0
    # their flags are compared all the same, with the rules that their footers tell
    await asyncio.to_thread(damage.rows(damage.value("quality_flags", damage.without_flags)), real)
    assert {item.kind for item in (await looked_at(real, None, ELSEWHERE)).findings} == {"rows_differ"}


def test_a_footer_tells_its_rules_so_that_they_can_be_applied_again() -> None:
    for rules in (RulesSettings(), ELSEWHERE, RulesSettings(future_seconds=0.5)):
        assert rules_of(recipe_of(rules)) == rules
    for other in ("", "e233f816f835", "1 51.0 51.25 16.75 17.25 300.0 86400.0", "2 1.0", "2 9 8 7 6 5 4"):
        assert rules_of(other) is None


async def test_other_objects_below_raw_are_named_and_no_findings(real: Path) -> None:
    await process(settings_for(real))
    folder = real / damage.LAKE / "raw"
    for name in ("_SUCCESS", "README.md", "dt=2025-05-12/thumbs.db", "notes/a.txt"):
        damage.rewrite(folder / name, b"not a snapshot\n" if name != "_SUCCESS" else b"")
    report = await looked_at(real)
    assert (told(report), len(report.other_objects), report.proved) == ([], 4, True)


async def test_a_copy_whose_raw_files_are_gone_is_never_deleted(real: Path) -> None:
    await process(settings_for(real))
    path = damage.parquet(real)
    content = path.read_bytes()
    copy = real / damage.LAKE / "enhanced/all/dt=backup/all_enhanced_20250512_235959.parquet"
    damage.rewrite(copy, content)
    damage.raw(real).unlink()
    report = await repaired(real)
    assert {item.kind for item in report.findings} == {"misplaced_parquet"}
    assert copy.read_bytes() == content


async def test_a_cut_stray_is_set_aside_and_not_deleted(real: Path) -> None:
    await process(settings_for(real))
    name = "all_enhanced_20250512_185959.parquet"
    await asyncio.to_thread(damage.cut(damage.parquet, name), real)
    stray = damage.parquet_folder(real) / name
    content = stray.read_bytes()
    assert told(await repaired(real)) == []
    assert not stray.exists()
    assert stray.with_name(f"{name}.damaged").read_bytes() == content


async def test_dropped_dead_letters_are_counted_and_no_damage(real: Path) -> None:
    damage.rewrite(damage.raw(real), damage.raw(real).read_bytes() + b"odd\nodder\n")
    await process(settings_for(real))
    path = damage.letters(real)
    letters = [json.loads(line) for line in path.read_text().splitlines()]
    summary = {**letters[0], "line_number": None, "check": "dropped", "dropped": 1}
    path.write_text("".join(json.dumps(item) + "\n" for item in (letters[1], summary)))
    assert told(await looked_at(real)) == []
    path.write_text(json.dumps({**summary, "dropped": 2}) + "\n")
    assert told(await looked_at(real)) == []
    path.write_text("".join(json.dumps(item) + "\n" for item in (letters[1], {**summary, "dropped": 2})))
    assert told(await looked_at(real)) != []


async def test_in_a_bucket_there_may_be_nothing_to_verify_either(storage: StorageSettings, tmp_path: Path) -> None:
    async with open_road(storage, tmp_path) as road:
        assert not (await road.verify()).proved
        await road.store.put(f"{road.layout.raw}dt=2025-05-31/{SNAPSHOTS[-1].name}", SNAPSHOTS[-1].read_bytes())
        await road.process()
        assert (await road.verify()).proved
