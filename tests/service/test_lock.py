"""The lock file of a running service is deleted or replaced: no second one comes to work beside it."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

from bikeflow.runtime.lock import FILE_NAME, holder
from tests.service.test_reload import bikeflow, no_tick_was_missed
from tests.support import oracle
from tests.support.service import PATIENCE_SECONDS, running


async def test_a_lock_file_that_is_deleted_is_told_and_held_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with oracle.serving() as feed, running(data_dir, feed.url) as service:
        await service.logged("event=started")
        for times in (1, 2):
            (data_dir / FILE_NAME).unlink()
            await service.told("lock_renewed", times)
            assert holder(data_dir) == service.process.pid
        code, _, err = await bikeflow("backfill", "--data-dir", str(data_dir), cwd=tmp_path)
        assert code == 1 and f"another bikeflow (process {service.process.pid}) works on" in err
        await service.told("refreshed", service.log().count("event=refreshed ") + 2)
        assert await service.stop() == 0
        no_tick_was_missed(service)
        assert holder(data_dir) is None


async def test_a_service_whose_place_was_taken_ends(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with oracle.serving() as feed, running(data_dir, feed.url) as service:
        await service.logged("event=started")
        other = tmp_path / "other"
        with other.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("4711\n")
            file.flush()
            other.replace(data_dir / FILE_NAME)
            assert await asyncio.wait_for(service.process.wait(), PATIENCE_SECONDS) == 1
        assert "event=lock_lost" in service.log() and "Traceback" not in service.log()
        assert service.log().splitlines()[-1].startswith("error: another bikeflow (process 4711) works on")
