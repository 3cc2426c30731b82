"""Dead letters are worked: tried again under today's rules, or dropped, and the conservation law stays provable."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from bikeflow.core.errors import InUse
from bikeflow.core.scope import Scope
from bikeflow.feeds.wrm.rows import impossible
from bikeflow.lake import dead_letters
from bikeflow.lake.dead_letters import Selection
from bikeflow.runtime.lock import exclusive
from bikeflow.service.work import replay
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, StorageSettings
from bikeflow.store import open_store
from tests.support.lines import raw_file, station
from tests.support.road import Road, open_road

DAY = "dt=2025-06-01"
FIRST, SECOND, PAGE = (f"{DAY}/wrm_stations_2025-06-01_{at}.txt" for at in ("18-10-00", "19-10-00", "20-10-00"))
ALL = Selection(Scope())


def settings_of(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, feed=FeedSettings(url="http://127.0.0.1:9/"))


async def drop(settings: Settings, selection: Selection) -> tuple[int, int]:
    """What `bikeflow dlq drop` does."""
    async with open_store(settings.storage, settings.data_dir) as store:
        return await dead_letters.drop(store, settings.all_systems, selection)


def tell(_done: int, _total: int) -> None:
    """Progress, which no test looks at."""


@pytest.fixture
async def letters(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory with six dead letters in three files; one stands for a whole page of four lines."""
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_raw(FIRST, raw_file(station(1), station(2, bikes="-1"), station(3, bikes="x"), "junk"))
        await road.put_raw(SECOND, raw_file(station(1), station(2, bikes="-1"), station(4, bikes="-2")))
        await road.put_raw(PAGE, "<html>\n<body>\n502\n</body>\n</html>\n")
        await road.process()
    yield tmp_path


async def state_of(road: Road) -> tuple[list[str], int, int]:
    """Findings of the audit, rows, rejected lines."""
    report = await road.verify()
    return [finding.kind for finding in report.findings], report.rows, report.rejected


def bikeflow(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bikeflow", "dlq", *arguments, "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, stdin=subprocess.DEVNULL)


async def test_a_drop_leaves_only_the_number_and_verify_still_proves_the_law(letters: Path) -> None:
    assert await drop(settings_of(letters), ALL) == (3, 6)
    async with open_road(StorageSettings(), letters) as road:
        assert await state_of(road) == ([], 2, 9)
        contents = await road.objects("dlq/")
        summaries = [json.loads(line) for data in contents.values() for line in data.splitlines()]
        assert [(item["check"], item["dropped"]) for item in summaries] == [
            ("dropped", 3),
            ("dropped", 2),
            ("dropped", 4),
        ]
        assert all(item["line_number"] is None and item["source_key"].endswith(".txt") for item in summaries)
        assert await road.process() == []
        assert await road.objects("dlq/") == contents
    assert await drop(settings_of(letters), ALL) == (0, 0)


async def test_a_drop_outlives_the_ledger(letters: Path) -> None:
    await drop(settings_of(letters), Selection(Scope(), source="_18-10"))
    (letters / "ledger.sqlite").unlink()
    async with open_road(StorageSettings(), letters) as road:
        await road.process()
        assert await state_of(road) == ([], 2, 9)
        (data,) = [data for key, data in (await road.objects("dlq/")).items() if "_18-10" in key]
        assert json.loads(data)["dropped"] == 3


async def test_a_drop_outlives_the_sealing_of_its_day(letters: Path) -> None:
    await drop(settings_of(letters), ALL)
    async with open_road(StorageSettings(), letters) as road:
        before = await road.objects("dlq/")
        assert await road.reconciler.seal_finished_days()
        await road.process()
        assert await road.objects("dlq/") == before
        assert await state_of(road) == ([], 2, 9)


async def test_drops_by_check_and_file_add_up(letters: Path) -> None:
    settings = settings_of(letters)
    assert await drop(settings, Selection(Scope(), check="range")) == (2, 3)
    assert await drop(settings, Selection(Scope(), source="_18-10")) == (1, 2)
    assert await drop(settings, Selection(Scope(dt.date(2025, 6, 2)))) == (0, 0)
    async with open_road(StorageSettings(), letters) as road:
        assert await state_of(road) == ([], 2, 9)
    assert "3 dead letters" not in bikeflow(letters, "list").stdout
    rows = json.loads(bikeflow(letters, "list", "--check", "dropped", "--json").stdout)
    assert [(row["dead_letters"], row["files"]) for row in rows] == [(5, 2)]
    assert len(bikeflow(letters, "show", "--json").stdout.splitlines()) == 1


async def test_a_replay_under_the_same_rules_changes_nothing_however_often(letters: Path) -> None:
    async with open_road(StorageSettings(), letters) as road:
        before = {**await road.objects("enhanced/"), **await road.objects("processed/")}
    for _ in range(2):
        result = await replay(settings_of(letters), ALL, tell)
        assert (result["files"], result["dead_letters_before"], result["dead_letters_after"]) == (3, 6, 6)
    async with open_road(StorageSettings(), letters) as road:
        assert await state_of(road) == ([], 2, 9)
        # Sealed, as the day is long over; the rows are the same.
        assert len(await road.keys("enhanced/")) == 1 < len(before) / 2 + 1
        assert await road.row_counts() == {FIRST.split("/")[1]: 1, SECOND.split("/")[1]: 1}


async def test_what_passes_under_todays_rules_moves_into_its_segment(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yesterday's rules refused negative numbers of bikes; today's let them pass."""
    monkeypatch.setattr(
        "bikeflow.feeds.wrm.parsing.impossible",
        lambda table: [item for item in impossible(table) if item[1].column != "bikes"],
    )
    result = await replay(settings_of(letters), Selection(Scope(), check="range"), tell)
    assert (result["files"], result["dead_letters_before"], result["dead_letters_after"]) == (2, 5, 2)
    async with open_road(StorageSettings(), letters) as road:
        assert await state_of(road) == ([], 5, 6)
    with duckdb.connect(letters / "analytics.duckdb", read_only=True) as database:
        sql = "SELECT bikes FROM wrm_analytics.wrm_stations_enhanced_data WHERE bikes < 0 ORDER BY bikes"
        assert database.execute(sql).fetchall() == [(-2,), (-1,), (-1,)]


async def test_dropped_letters_come_back_where_they_are_asked_for(letters: Path) -> None:
    settings = settings_of(letters)
    await drop(settings, ALL)
    assert (await replay(settings, ALL, tell))["files"] == 0
    result = await replay(settings, Selection(Scope(), check="dropped"), tell)
    assert (result["files"], result["dead_letters_after"]) == (3, 6)
    async with open_road(StorageSettings(), letters) as road:
        assert await state_of(road) == ([], 2, 9)


async def test_a_replay_beside_a_running_service_is_refused_and_a_drop_is_not(letters: Path) -> None:
    with exclusive(letters):
        with pytest.raises(InUse):
            await replay(settings_of(letters), ALL, tell)
        assert await drop(settings_of(letters), ALL) == (3, 6)


def test_the_commands_do_what_they_say(letters: Path, tmp_path: Path) -> None:
    refused = bikeflow(letters, "drop")
    assert (refused.returncode, refused.stderr) == (2, "error: this drops 6 dead letters; say --yes\n")
    replayed = bikeflow(letters, "replay", "--source", "_19-10")
    assert replayed.stdout == "1 raw files processed again: 2 dead letters before, 2 now\n"
    dropped = bikeflow(letters, "drop", "--yes", "--source", "_19-10")
    assert (dropped.returncode, dropped.stdout) == (0, "2 dead letters of 1 raw files dropped\n")
    assert bikeflow(letters, "list").stdout.splitlines()[-1] == "4 dead letters"
    assert bikeflow(letters, "drop", "--yes", "--check", "dropped").returncode == 2
    shutil.rmtree(tmp_path / "lake" / "bike-data/gen_info/dlq")
    assert bikeflow(letters, "list").stdout == "no dead letters\n"
