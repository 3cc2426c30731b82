"""Dead letters stay, are replaced and go with their raw file, also after a lost ledger."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bikeflow.settings.sections import StorageSettings
from tests.lake.test_processing import name, remove_ledger
from tests.support.lines import HEADER, raw_file, station
from tests.support.real import SNAPSHOTS
from tests.support.road import Road, open_road

REAL = SNAPSHOTS[0].read_text(encoding="utf-8")
UNREADABLE = {
    "no bytes at all": "",
    "a page of HTML on one line": "<html><body>502 Bad Gateway</body></html>",
    "a header that lacks a column": REAL.splitlines()[0].replace(",bikes", "") + "\n",
}


def letters_of(objects: dict[str, bytes]) -> Iterator[dict[str, object]]:
    return (json.loads(line) for data in objects.values() for line in data.splitlines())


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("neighbour", [REAL, None], ids=["beside a real snapshot", "alone"])
async def test_the_dead_letter_of_an_unreadable_file_without_data_lines_stays(
    road: Road, tmp_path: Path, content: str, neighbour: str | None
) -> None:
    await road.put_raw(name("18-10-07", "2025-05-12"), content)
    if neighbour is not None:
        await road.put_raw(name("18-20-13", "2025-05-12"), neighbour)
    await road.process()
    before = await road.objects("dlq/")
    (letter,) = letters_of(before)
    assert (letter["line_number"], letter["check"]) == (None, "header")
    for _ in range(2):
        assert await road.process() == []
        assert await road.objects("dlq/") == before
    report = await road.verify()
    assert (report.findings, report.unreadable_files, report.rejected) == ([], 1, 0)
    # it is known to the ledger: a lost one is written again
    (key,) = before
    await road.store.delete(key)
    await road.process()
    assert list(await road.objects("dlq/")) == [key]
    assert await road.process() == []


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
async def test_it_stays_after_a_lost_ledger_too_and_goes_once_the_file_is_mended(
    storage: StorageSettings, tmp_path: Path, content: str
) -> None:
    async with open_road(storage, tmp_path) as road:
        await road.put_raw(name("18-10-07", "2025-05-12"), content)
        await road.put_raw(name("18-20-13", "2025-05-12"), REAL)
        await road.process()
    remove_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        before = await road.objects("dlq/")
        await road.process()
        assert await road.objects("dlq/") == before
        await road.put_raw(name("18-10-07", "2025-05-12"), REAL)
        await road.process()
        assert await road.objects("dlq/") == {}
        assert (await road.verify()).findings == []


BAD = raw_file(station(1), station(2, bikes="x"), station(3, lat="91"))
NEW_CONTENTS = {"good": REAL, "bad otherwise": raw_file(station(1, bikes="-7"), header=HEADER), "empty": ""}
OLD_CONTENTS = {"some bad lines": BAD, "bad lines only": raw_file(station(2, bikes="x")), "unreadable": "<html>\n"}


@pytest.mark.parametrize("old", OLD_CONTENTS.values(), ids=OLD_CONTENTS)
@pytest.mark.parametrize("new", NEW_CONTENTS.values(), ids=NEW_CONTENTS)
async def test_after_a_lost_ledger_the_letters_of_an_overwritten_file_go_with_the_processing_of_the_new_one(
    storage: StorageSettings, tmp_path: Path, old: str, new: str
) -> None:
    async with AsyncExitStack() as stack:
        road = await stack.enter_async_context(open_road(storage, tmp_path))
        await road.put_raw(name("18-10-07"), old)
        await road.put_raw(name("18-20-13"), REAL)
        await road.process()
    remove_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        await road.put_raw(name("18-10-07"), new)
        await road.process()  # one reconciliation, then the processing: no second one
        assert (await road.verify()).findings == []
        assert await road.process() == []


async def test_after_a_lost_ledger_an_older_file_of_the_same_size_is_noticed_in_a_local_lake(tmp_path: Path) -> None:
    """`cp -p` from a backup: neither size nor time of modification tells."""
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_raw(name("18-10-07"), raw_file(station(1, bikes="5")))
        await road.put_raw(name("18-20-13"), raw_file(station(1, bikes="6")))
        await road.process()
    remove_ledger(tmp_path)
    (path,) = (tmp_path / "lake").rglob("*18-10-07.txt")
    path.write_text(raw_file(station(1, bikes="9")))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.process()
        assert {row["bikes"] for row in await road.rows("enhanced")} == {6, 9}
        assert (await road.verify()).findings == []


async def test_dlq_list_counts_unreadable_files_separately(tmp_path: Path) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        for minute, content in enumerate(UNREADABLE.values()):
            await road.put_raw(name(f"18-{minute:02}-00"), content)
        await road.put_raw(name("18-20-13"), BAD)
        await road.process()
    code, output = await command(tmp_path, "dlq", "list")
    assert (code, output.splitlines()[-2:]) == (
        0,
        ["3 files can't be read at all: one dead letter stands for each", "5 dead letters"],
    )
    rows = json.loads((await command(tmp_path, "dlq", "list", "--json"))[1])
    assert [(row["check"], row["dead_letters"], row["files"], row["unreadable_files"]) for row in rows] == [
        ("header", 2, 2, 2),
        ("header", 1, 1, 1),
        ("range", 1, 1, 0),
        ("type", 1, 1, 0),
    ]


async def test_a_replay_files_documents_that_were_unusable_and_are_understood_now(tmp_path: Path) -> None:
    folder = tmp_path / "lake/bike-data/gen_info/dlq/feed/dt=2025-06-01"
    folder.mkdir(parents=True)
    for second, text in ((7, raw_file(station(1), station(2, bikes="5+"))), (8, "<html>")):
        content = base64.b64encode(gzip.compress(text.encode())).decode()
        letter = {"fetched_at": f"2025-06-01T18:10:0{second}Z", "charset": "utf-8", "content": content}
        (folder / f"2025-06-01_18-10-0{second}.json").write_text(json.dumps(letter))
    (folder / "2025-06-01_18-10-09.json").write_text('{"body": "cut, as a former version kept it"}')
    code, output = await command(tmp_path, "dlq", "list")
    assert code == 0 and output.startswith("3 downloads were no feed document")
    code, output = await command(tmp_path, "dlq", "replay")
    assert code == 0 and "1 unusable documents filed as raw files, 2 are still unusable" in output
    assert len(list(folder.iterdir())) == 2
    code, output = await command(tmp_path, "verify")
    assert code == 0 and output.startswith("1 raw files, 2 lines = 1 rows + 1 rejected")


async def test_a_damaged_dead_letter_file_is_told_without_a_traceback(tmp_path: Path) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_raw(name("18-20-13"), BAD)
        await road.process()
    (path,) = (tmp_path / "lake").rglob("*.jsonl")
    path.write_text("{")
    code, output = await command(tmp_path, "dlq", "list")
    assert code == 1
    assert output.startswith("error: ")
    assert "`bikeflow verify --repair` writes it again" in output


async def command(data_dir: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and all output of a bikeflow command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bikeflow", *arguments, "--data-dir", str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()
