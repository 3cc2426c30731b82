"""A long outage of the store, in fast motion: the log stays readable, and nothing is lost."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.service.test_reload import settled
from tests.support import oracle
from tests.support.exchange import a_file_in_place_of
from tests.support.service import running

FAST = {
    "watcher.poll_seconds": 0.05, "retry.attempts": 2, "retry.initial_seconds": 0.01, "retry.max_seconds": 0.05,
}  # fmt: skip


async def test_an_outage_of_a_hundred_attempts_is_a_few_lines_and_a_count(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    lake = data_dir / "lake"
    async with oracle.serving() as feed, running(data_dir, feed.url, settings=FAST) as service:
        await service.told("refreshed", 1)
        with a_file_in_place_of(lake):
            await service.logged("event=storage_failed")
            fetched = service.log().count("event=fetched")
            await service.told("fetched", fetched + 6)
            outage = service.log().partition("event=storage_failed")[2]
        await settled(service, feed)
        assert await service.stop() == 0
        counts = Counter(re.findall(r"level=(?:warning|error) event=(\w+)", outage))
        assert sum(counts.values()) <= 25, counts
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()
