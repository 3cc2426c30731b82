"""The kill soak: a service is killed at its writes, renames and commits, started again, and judged by the oracle.

The feed serves each numbered snapshot twice, so that duplicates are told from new ones across kills too; and somebody
else puts raw files in days that are over, which are sealed, unsealed and sealed again meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

from bikeflow.core.model import UTC
from bikeflow.settings import Settings
from bikeflow.settings.sections import StorageSettings
from tests.soak.trigger import Trigger
from tests.support.audits import verified
from tests.support.oracle import (
    PREFIX,
    Oracle,
    Verdict,
    bucket_keys,
    bucket_lake,
    database_rows,
    local_keys,
    local_lake,
    serving,
)
from tests.support.s3server import S3Server
from tests.support.service import PATIENCE_SECONDS, Service, running

PLACES = {
    "spool": r"^spool/",
    "raw": r"/raw/dt=",
    "processed": r"/processed/all/",
    "enhanced": r"^lake/.*/enhanced/all/",
    "dead letters": r"/dlq/",
    "ledger": r"^ledger\.sqlite",
    "polls": r"^polls\.sqlite|/polls/dt=",
    "mirror": r"^mirror/",
    "moved rows": r"^mirror/.*/moved/",
    "working database": r"^warehouse/",
    "published database": r"^\.?analytics\.duckdb",
    "anything": r"",
}
MOST_TOUCHES = 40
OTHERS_DAYS = 3
SETTINGS: dict[str, object] = {
    "watcher.poll_seconds": 0.2,
    "watcher.reconcile_seconds": 2,
    "processing.seal_after_minutes": 0,
    "retry.initial_seconds": 0.05,
    "storage.connect_timeout_seconds": 0.5,
    "storage.read_timeout_seconds": 3,
}
LIFE_SECONDS = 5.0
"""From its start, which takes long on a busy machine, until it is struck at the latest."""


@dataclass
class Tally:
    """What a soak came to."""

    kills: dict[str, int] = field(default_factory=dict)
    storms: dict[str, int] = field(default_factory=dict)
    recoveries: int = 0
    worst_recovery_seconds: float = 0.0
    audits: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    log: str = ""

    def lines(self) -> list[str]:
        """The result for people."""
        verdict = self.verdict
        return [
            f"kills              {_counted(self.kills)}",
            f"storage faults     {_counted(self.storms)}",
            f"snapshots served   {verdict.served}",
            f"snapshots stored   {verdict.stored}",
            f"rows expected      {verdict.expected}",
            f"rows found         {verdict.found}",
            f"lost               {verdict.lost}",
            f"doubled            {verdict.doubled}",
            f"audits             {self.audits}",
            f"recoveries         {self.recoveries}",
            f"worst recovery     {self.worst_recovery_seconds:.1f} s from the start or a fault's end until all is well",
        ]


def _counted(counts: dict[str, int]) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{name} {count}' for name, count in sorted(counts.items()))})"


class LocalPlace:
    """A lake in the data directory, as somebody else sees it."""

    storage: StorageSettings | None = None
    direct = StorageSettings()
    places = tuple(PLACES)

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def raw_keys(self) -> list[str]:
        """The keys of the raw files."""
        return [key for key in local_keys(self._data_dir) if "/raw/" in key]

    def contents(self) -> dict[str, bytes]:
        """All objects by key, while no service runs."""
        return local_lake(self._data_dir)

    def put(self, key: str, data: bytes) -> None:
        """Put an object there."""
        path = self._data_dir / "lake" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.parent / f".{path.name}.others"
        hidden.write_bytes(data)
        hidden.replace(path)


class BucketPlace:
    """A lake in a bucket, as somebody else sees it; the service's writes to it show only in its local files."""

    places = tuple(place for place, pattern in PLACES.items() if "/" not in pattern.lstrip("^").rstrip("/"))

    def __init__(self, server: S3Server, endpoint_url: str = "") -> None:
        """The service reaches it by another way where there is an `endpoint_url`."""
        self.direct = server.settings()
        self.storage: StorageSettings | None = (
            self.direct.model_copy(update={"endpoint_url": endpoint_url}) if endpoint_url else self.direct
        )
        self._bucket = self.direct.bucket
        self._client = server.client()

    def raw_keys(self) -> list[str]:
        """The keys of the raw files."""
        return [key for key in bucket_keys(self._client, self._bucket) if "/raw/" in key]

    def contents(self) -> dict[str, bytes]:
        """All objects by key, while no service runs."""
        return bucket_lake(self._client, self._bucket)

    def put(self, key: str, data: bytes) -> None:
        """Put an object there."""
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)


class Soak:
    """One data directory, its service, and who kills it."""

    def __init__(
        self, directory: Path, oracle: Oracle, seed: int, server: S3Server | None = None, endpoint_url: str = ""
    ) -> None:
        self.tally = Tally()
        self._data_dir = directory / "data"
        self._data_dir.mkdir(parents=True)
        self._place = BucketPlace(server, endpoint_url) if server else LocalPlace(self._data_dir)
        self._oracle = oracle
        self._chance = random.Random(seed)
        self._promises: list[str] = []

    def service(self) -> AbstractAsyncContextManager[Service]:
        """The service, started; in some lives open segments wait to be written, and rows move to files early."""
        return running(
            self._data_dir,
            self._oracle.url,
            storage=self._place.storage,
            settings=SETTINGS | {"processing.write_seconds": self._chance.choice([0, 0, 3, 3_600])},
            moved_rows=self._chance.choice([None, 20, 200]),
        )

    async def life(self, number: signal.Signals = signal.SIGKILL, place: str | None = None) -> int:
        """Start the service and end it by a signal at a random touch of a kind of file; returns the exit code."""
        place = place or self._chance.choice(self._place.places)
        started = time.monotonic()
        async with self.service() as service:
            if self._chance.random() < 0.4:
                await self._recovered(service, started)
            hit = await self.strike(service, number, place)
            place = place if hit else "idle"
            self.tally.kills[place] = self.tally.kills.get(place, 0) + 1
            code = await asyncio.wait_for(service.process.wait(), PATIENCE_SECONDS)
            self.keep_log(service)
        return code

    async def strike(self, service: Service, number: signal.Signals, place: str) -> bool:
        """Signal the service at a random touch of a kind of file; False where none came for a while."""
        count = min(int(self._chance.expovariate(1 / 6)) + 1, MOST_TOUCHES)
        with closing(Trigger(self._data_dir)) as trigger:
            over = threading.Event()
            target = (service.process.pid, number)
            striking = asyncio.create_task(
                asyncio.to_thread(trigger.hit, target, re.compile(PLACES[place]), count, over)
            )
            self.interfere()
            try:
                await self._started(service, striking)
                await asyncio.wait([striking], timeout=LIFE_SECONDS)
                over.set()
                return bool(await striking)
            except ProcessLookupError:
                raise AssertionError(f"it ended by itself\n{service.log()}") from None
            finally:
                over.set()

    async def _started(self, service: Service, striking: asyncio.Task[str]) -> None:
        """Wait until all roles run, or it is struck or ends before."""
        while not (striking.done() or service.process.returncode is not None or service.has_started()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def settle(self) -> None:
        """Let the service run undisturbed until all is published, prove liveness, stop it, audit and verify."""
        self._oracle.frozen = True
        started = time.monotonic()
        async with self.service() as service:
            await self._recovered(service, started)
            await service.until(self._is_settled, "all raw files to be published")
            self._oracle.frozen = False
            fresh = len(self._oracle.served)
            await service.until(lambda: self._published(fresh), f"the fresh snapshot {fresh} to be published")
            self._oracle.frozen = True
            await service.until(self._is_settled, "all raw files to be published")
            assert await service.stop() == 0
            self.keep_log(service)
        self._oracle.frozen = False
        self.tally.audits += 1
        self.tally.verdict = self._oracle.audit(
            self._place.contents(), self._data_dir / "analytics.duckdb", "\n".join(self._promises)
        )
        self.tally.verdict.assert_exactly_once()
        settings = Settings(data_dir=self._data_dir, storage=self._place.direct)
        report = await verified(settings, sample=None)
        assert not report.findings, "\n".join(map(str, report.findings[:20]))

    async def _recovered(self, service: Service, started: float) -> None:
        await service.logged("event=refreshed")
        self.tally.recoveries += 1
        self.tally.worst_recovery_seconds = max(self.tally.worst_recovery_seconds, time.monotonic() - started)

    def interfere(self) -> None:
        """Somebody else puts a raw file in a day that is over: a new one, or one in the place of an older one."""
        if self._chance.random() < 0.5:
            return
        midnight = dt.datetime.combine(dt.datetime.now(UTC).date(), dt.time(), UTC)
        at = midnight - dt.timedelta(days=self._chance.randint(1, OTHERS_DAYS), minutes=-self._chance.randrange(1440))
        key = f"{PREFIX}raw/dt={at:%Y-%m-%d}/wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt"
        if self._oracle.put and self._chance.random() < 0.3:
            key = self._chance.choice(sorted(self._oracle.put))
        self._place.put(key, self._oracle.put_file(key))

    def _is_settled(self) -> bool:
        raw = len(self._place.raw_keys())
        if list((self._data_dir / "spool").glob("*/*.txt")) or not (self._data_dir / "analytics.duckdb").exists():
            return False
        rows = database_rows(self._data_dir / "analytics.duckdb")
        numbers = {number for _, _, number in rows}
        return len({key for key, _, _ in rows}) == raw and numbers >= set(self._oracle.put.values())

    def _published(self, number: int) -> bool:
        return any(row[2] == number for row in database_rows(self._data_dir / "analytics.duckdb"))

    def keep_log(self, service: Service) -> None:
        """Remember what was promised, and begin the log anew: it would grow with every life."""
        text = service.log()
        self._promises += [line for line in text.splitlines() if "outcome=stored" in line]
        self.tally.log = text
        for word in ("Traceback", "run_crashed"):
            assert word not in text, text
        service.clear_log()


async def soak(
    directory: Path,
    *,
    kills: int,
    seed: int = 1,
    audit_every: int = 50,
    server: S3Server | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Kill a service so often; raises AssertionError at the first loss or doubling."""
    async with serving(repeats=2) as oracle:
        run = Soak(directory, oracle, seed, server)
        done = 0
        while done < kills:
            await run.life()
            done += 1
            if done % audit_every == 0:
                await run.settle()
                tell(f"{done} kills, {run.tally.verdict.expected} rows expected, {run.tally.verdict.found} found")
        await run.settle()
        return run.tally
