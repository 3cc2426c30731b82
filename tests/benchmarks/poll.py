"""A poll of a bucket with 100,000 raw keys, on a real S3 server: requests and time, against one bare LIST."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from pydantic import SecretStr

from bikeflow.core.model import StoreAnswered
from bikeflow.feeds import format_of
from bikeflow.lake.listings import Listings
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.reconciler import Reconciler
from bikeflow.lake.watcher import Watcher
from bikeflow.ledger import Ledger
from bikeflow.settings.sections import StorageSettings, WatcherSettings
from bikeflow.store import open_store
from bikeflow.store.counting import CountingStore
from tests.benchmarks.day import DAY, PREFIX
from tests.benchmarks.measuring import Row, rounded
from tests.support.s3server import S3Server, rclone
from tests.support.wrm import wrm, wrm_layout

BUCKET = "bikes"
KEYS = 100_000
A_DAY = 2880
POLLS = 5


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Requests and seconds of a full reconciliation, of a poll that finds nothing, and of one that finds a snapshot."""
    for number in range(KEYS):
        _put(folder / "buckets", number)
    with rclone(folder, buckets=str(folder / "buckets")) as server:
        rows = asyncio.run(_measure(folder, server, max(POLLS, runs)))
    return {"what": f"a bucket with {KEYS:,} raw keys behind rclone, which walks all of them for a LIST", "rows": rows}


async def _measure(folder: Path, server: S3Server, polls: int) -> list[Row]:
    layout, requests = wrm_layout(PREFIX), Counter[str]()

    def count(event: StoreAnswered) -> None:
        requests[event.operation] += 1

    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(open_store(_storage(server), folder))
        store = CountingStore(plain, count)
        ledger = stack.enter_context(Ledger(folder, [layout], 60))
        index, queue = ledger.systems[layout.system_id], PartitionQueue(10_000)
        reconciler = Reconciler(store, layout, index, format_of(wrm()), 1e4)
        watcher = Watcher(Listings(WatcherSettings(), 5), store, layout, index, ledger.runs, queue, reconciler)
        started = time.perf_counter()
        await reconciler.reconcile()
        rows: list[Row] = [_row("full reconciliation", time.perf_counter() - started, requests.total())]
        await watcher.poll()
        for name, new in (("poll, nothing new", 0), ("poll, one new snapshot", 1)):
            requests.clear()
            seconds = []
            for _ in range(polls):
                for _ in range(new):
                    # Over S3, as rclone looks at the directory itself only every five minutes.
                    await plain.put(layout.raw_key(_at(index.files.totals()["raw_files"])), b"new\n")
                started = time.perf_counter()
                assert len(await watcher.poll()) == new
                seconds.append(time.perf_counter() - started)
            rows.append(_row(name, statistics.median(seconds), requests.total() / polls))
        after = index.files.key_before_newest(900)
    bare = [_bare_list(server, layout.raw, after) for _ in range(polls)]
    return [*rows, _row("one bare LIST", statistics.median(bare), 1)]


def _bare_list(server: S3Server, prefix: str, after: str) -> float:
    client = server.client()
    started = time.perf_counter()
    client.list_objects_v2(Bucket=BUCKET, Prefix=prefix, StartAfter=after)
    return time.perf_counter() - started


def _row(what: str, seconds: float, requests: float) -> Row:
    return {"what": what, "requests": rounded(requests), "seconds": rounded(seconds, 3)}


def _put(buckets: Path, number: int) -> None:
    """A raw file beside the S3 server's back: 100,000 PUTs would take longer than all that is measured."""
    path = buckets / BUCKET / wrm_layout(PREFIX).raw_key(_at(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{number}\n")


def _at(number: int) -> dt.datetime:
    return DAY + dt.timedelta(seconds=number * 86_400 / A_DAY)


def _storage(server: S3Server) -> StorageSettings:
    return StorageSettings(
        backend="s3",
        bucket=BUCKET,
        prefix=PREFIX,
        endpoint_url=server.endpoint_url,
        region=server.region,
        access_key_id=SecretStr(server.access_key_id),
        secret_access_key=SecretStr(server.secret_access_key),
    )
