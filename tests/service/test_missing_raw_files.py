"""Raw files disappear under a real service, or while there is none; they return, or the operator forgets them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import aiohttp

from tests.service.test_reload import bikeflow
from tests.support import oracle, webhook
from tests.support.lines import raw_file, station
from tests.support.oracle import PREFIX
from tests.support.service import running
from tests.support.watch import Watch

DAY = "2025-06-01"
FILES = 12
QUICK = {"alerts.grace_seconds": 0, "watcher.reconcile_seconds": 0.5}
SCOPE = ("--system", "wrm", "--from", DAY, "--to", DAY)


def fill(data_dir: Path) -> Path:
    """A day of raw files, each with a row and a rejected line; gives their folder."""
    folder = data_dir / f"lake/{PREFIX}raw/dt={DAY}"
    folder.mkdir(parents=True)
    for minute in range(FILES):
        at = dt.datetime.fromisoformat(f"{DAY} 18:00:00") + dt.timedelta(minutes=minute)
        text = raw_file(station(1, bikes=str(minute)), station(2, bikes="5+"))
        (folder / f"wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt").write_text(text, encoding="utf-8")
    return folder


def derived(data_dir: Path) -> list[Path]:
    """The day's Parquet files and dead letters."""
    return sorted((data_dir / f"lake/{PREFIX}").glob(f"[!r]*/**/dt={DAY}/*"))


async def test_a_service_tells_keeps_and_waits_for_the_return_or_the_operator(tmp_path: Path) -> None:
    data_dir, away = tmp_path / "data", tmp_path / "away"
    folder = fill(data_dir)
    counted = f"SELECT count(*) FROM history WHERE date = '{DAY}'"
    async with oracle.serving() as feed, webhook.listening() as hook:
        channels = {"BIKEFLOW_ALERTS__URLS": hook.url()}
        async with (
            running(data_dir, feed.url, settings=QUICK, variables=channels) as service,
            aiohttp.ClientSession(await service.url()) as client,
        ):
            watch = Watch(service, client)
            await service.sees(counted, FILES)
            await watch.recovers()
            before = derived(data_dir)
            assert len(before) == 2 + FILES
            folder.rename(away)
            await watch.breaks("archive", archive=f"{FILES} raw files are missing from the store")
            assert await watch.metric('bikeflow_missing_raw_files{system="wrm"}') == FILES
            await service.logged("event=alert_sent alert=raw_files_missing kind=problem")
            assert "event=raw_files_missing" in service.log()
            code, out, _ = await bikeflow("verify", "--data-dir", str(data_dir), cwd=tmp_path)
            assert code == 1 and f"missing_raw: {PREFIX}raw/dt={DAY}" in out and f"{FILES} raw files" in out
            assert derived(data_dir) == before

            away.rename(folder)
            await watch.recovers()
            await service.logged("event=alert_sent alert=raw_files_missing kind=recovery")
            assert await watch.metric('bikeflow_missing_raw_files{system="wrm"}') == 0
            assert derived(data_dir) == before

            folder.rename(away)
            await watch.breaks("archive")
            asked = ("forget", *SCOPE, "--data-dir", str(data_dir))
            code, _, err = await bikeflow(*asked, cwd=tmp_path)
            assert code == 2 and f"{FILES} missing raw files; say --yes" in err and derived(data_dir) == before
            code, out, err = await bikeflow(*asked, "--yes", cwd=tmp_path)
            assert (code, err) == (
                0,
                "",
            ) and f"{FILES} missing raw files forgotten; process {service.process.pid}" in out
            await service.until(lambda: not derived(data_dir), "what was made of them to be gone")
            await service.sees(counted, 0)
            await watch.recovers()
            assert await service.stop() == 0
            assert "Traceback" not in service.log()
    code, out, _ = await bikeflow("verify", "--data-dir", str(data_dir), cwd=tmp_path)
    assert code == 0, out


async def test_without_a_service_a_backfill_keeps_what_is_missing_until_it_is_forgotten(tmp_path: Path) -> None:
    data_dir, away = tmp_path / "data", tmp_path / "away"
    folder, where = fill(data_dir), ("--data-dir", str(data_dir))
    assert (await bikeflow("backfill", *where, cwd=tmp_path))[0] == 0
    before = derived(data_dir)
    folder.rename(away)
    code, out, _ = await bikeflow("backfill", "--force", *where, cwd=tmp_path)
    assert code == 0 and f"{FILES} raw files are missing" in out and derived(data_dir) == before
    code, out, _ = await bikeflow("dlq", "replay", *where, cwd=tmp_path)
    assert code == 0 and f"{FILES} raw files are missing" in out and derived(data_dir) == before
    for options in ((), ("--from", DAY), ("--to", DAY)):
        code, _, err = await bikeflow("forget", *options, "--yes", *where, cwd=tmp_path)
        assert code == 2 and "--from and --to" in err
    code, out, _ = await bikeflow(
        "forget", "--from", "2025-06-02", "--to", "2025-06-02", "--yes", "--json", *where, cwd=tmp_path
    )
    assert code == 0 and json.loads(out)["forgotten"] == {} and derived(data_dir) == before
    code, out, _ = await bikeflow("forget", *SCOPE, "--yes", *where, cwd=tmp_path)
    assert code == 0 and f"{FILES} missing raw files of 1 day," in out and derived(data_dir) == []
    away.rename(folder)
    code, out, _ = await bikeflow("backfill", *where, cwd=tmp_path)
    assert code == 0 and derived(data_dir) == before


async def test_a_restarted_service_is_red_from_its_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    folder = fill(data_dir)
    assert (await bikeflow("backfill", "--data-dir", str(data_dir), cwd=tmp_path))[0] == 0
    folder.rename(tmp_path / "away")
    assert (await bikeflow("backfill", "--data-dir", str(data_dir), cwd=tmp_path))[0] == 0
    async with (
        oracle.serving() as feed,
        running(data_dir, feed.url) as service,
        aiohttp.ClientSession(await service.url()) as client,
    ):
        await service.logged("event=started")
        assert "archive" in await Watch(service, client).faults()
        assert await service.stop() == 0
