"""A disk that is full, read-only or broken, and no file descriptors: a real service goes through it and says so."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.oracle import Oracle, bucket_lake, database_rows, local_lake, serving
from tests.support.preload import built
from tests.support.rounds import rounds
from tests.support.s3server import S3Server
from tests.support.service import PATIENCE_SECONDS, Service, running
from tests.support.watch import Watch

SETTINGS: Mapping[str, object] = {
    "watcher.poll_seconds": 0.5,
    "retry.initial_seconds": 0.05,
    "retry.max_seconds": 3,
    "processing.seal_after_minutes": 43_200,
}
LASTING_SECONDS = 1.5
pytestmark = pytest.mark.slow


class BadDisk:
    """Makes a service's file calls below `directory` fail, with any errno, without being root."""

    def __init__(self, library: Path, control: Path, directory: Path) -> None:
        self._control = control
        self._directory = directory
        self.variables = {"LD_PRELOAD": str(library), "DISKFAULT_CONTROL": str(control)}
        control.write_bytes(bytes(1024))

    def fails(self, error: int) -> None:
        """From now on with this errno; 0: no more."""
        with self._control.open("r+b") as file:
            file.write(struct.pack("i", error) + f"{self._directory}/".encode() + b"\0")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes file calls fail."""
    library = built("diskfault.c", tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("needs Linux and a C compiler (cc) to make file calls fail")
    return library


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "bikeflow-test", str(directory)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root, and the right to mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@asynccontextmanager
async def watching(service: Service) -> AsyncIterator[Watch]:
    """Its health, once all works."""
    async with aiohttp.ClientSession(await service.url()) as client:
        watch = Watch(service, client)
        await watch.recovers()
        yield watch


async def ends_well(service: Service, oracle: Oracle, lake: Mapping[str, bytes]) -> None:
    """Stop; every row must be there exactly once."""
    assert await service.stop() == 0
    assert "Traceback" not in service.log(), service.log()
    oracle.audit(lake, service.database, service.log()).assert_exactly_once()


def shows_all_but_lost(service: Service, oracle: Oracle) -> bool:
    """Whether all that was promised is published, and nothing waits."""
    keys = {key for key, _, _ in database_rows(service.database)}
    return oracle.promised(service.log()) <= keys and not list((service.data_dir / "spool").glob("*/*.txt"))


async def test_a_broken_disk_costs_no_snapshot_as_long_as_the_store_works(
    tmp_path: Path, shim: Path, s3_server: S3Server
) -> None:
    """What can't be spooled goes to the store at once; all else waits for the disk."""
    storage = s3_server.settings()
    disk = BadDisk(shim, tmp_path / "control", tmp_path / "data")
    async with (
        serving() as oracle,
        running(tmp_path / "data", oracle.url, storage=storage, settings=SETTINGS, variables=disk.variables) as service,
    ):
        async with watching(service) as watch:
            for error in (errno.ENOSPC, errno.EROFS, errno.EIO):
                disk.fails(error)
                await watch.breaks(watching="ledger")
                await asyncio.sleep(LASTING_SECONDS)
                assert "watching" in await watch.faults()
                disk.fails(0)
                await watch.recovers()
            oracle.frozen = True
            await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        assert "event=spool_bypassed" in service.log()
        assert "outcome=lost" not in service.log()
        await ends_well(service, oracle, bucket_lake(s3_server.client(), storage.bucket))


async def test_a_broken_disk_under_a_local_lake_costs_no_snapshot_either(tmp_path: Path, shim: Path) -> None:
    """What neither spool nor lake takes waits in memory."""
    data_dir = tmp_path / "data"
    disk = BadDisk(shim, tmp_path / "control", data_dir)
    async with (
        serving() as oracle,
        running(data_dir, oracle.url, settings=SETTINGS, variables=disk.variables) as service,
    ):
        async with watching(service) as watch:
            for error in (errno.ENOSPC, errno.EROFS, errno.EIO):
                disk.fails(error)
                await watch.breaks(fetching="3 snapshots wait in memory alone")
                assert await watch.metric('bikeflow_spool_memory_snapshots{system="wrm"}') >= 3
                disk.fails(0)
                await watch.recovers()
            assert await watch.metric('bikeflow_fetches_total{outcome="lost",system="wrm"}') == 0
            assert await watch.metric('bikeflow_spool_memory_snapshots{system="wrm"}') == 0
            oracle.frozen = True
            await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        assert "outcome=lost" not in service.log() and "event=snapshots_lost" not in service.log()
        await ends_well(service, oracle, local_lake(data_dir))


async def test_a_full_disk_is_told_and_all_goes_on_when_there_is_room_again(small_disk: Path) -> None:
    """Its log lies there as well."""
    data_dir, ballast = small_disk / "data", small_disk / "ballast"
    async with serving() as oracle, running(data_dir, oracle.url, settings=SETTINGS) as service:
        async with watching(service) as watch:
            fill(ballast)
            await watch.breaks(fetching="No space left")
            await asyncio.sleep(LASTING_SECONDS)
            assert "fetching" in await watch.faults()
            ballast.unlink()
            await watch.recovers()
            oracle.frozen = True
            await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        await ends_well(service, oracle, local_lake(data_dir))


async def test_a_start_on_a_full_disk_fails_in_one_line(small_disk: Path) -> None:
    fill(small_disk / "ballast")
    async with running(small_disk, "http://127.0.0.1:9/") as service:
        assert await asyncio.wait_for(service.process.wait(), PATIENCE_SECONDS) == 1
        (line,) = [line for line in service.log().splitlines() if line.startswith("error: ")]
        assert "full" in line or "No space left" in line
        assert "Traceback" not in service.log()


async def test_without_file_descriptors_it_waits_until_there_are_some(tmp_path: Path) -> None:
    async with serving() as oracle, running(tmp_path / "data", oracle.url, settings=SETTINGS) as service:
        async with watching(service) as watch:
            _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (1, hard))
            await watch.breaks(fetching="Too many open files")
            await asyncio.sleep(LASTING_SECONDS)
            assert "fetching" in await watch.faults()
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
            await watch.recovers()
            oracle.frozen = True
            await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        await ends_well(service, oracle, local_lake(tmp_path / "data"))


def fill(ballast: Path) -> None:
    """Write until there is no room left."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC


LEDGER = """
import datetime as dt, random, struct, sys, threading, time
from pathlib import Path
from bikeflow.core.errors import Transient
from bikeflow.core.layout import Layout
from bikeflow.ledger.database import Database
from bikeflow.ledger.files import FileIndex

folder, control, errors = Path(sys.argv[1]), Path(sys.argv[2]), [int(number) for number in sys.argv[3:]]
index = FileIndex(Database(folder / "ledger.sqlite"), Layout("wrm", "", "wrm_stations", ".txt"), 60)
ended = threading.Event()

def fail_now_and_then():
    chance = random.Random(1)
    while not ended.is_set():
        for error in (chance.choice(errors), 0):
            with control.open("r+b") as file:
                file.write(struct.pack("i", error) + f"{folder}/".encode() + bytes(1))
            time.sleep(chance.uniform(0, 0.004))

thread = threading.Thread(target=fail_now_and_then)
thread.start()
worked = failed = 0
try:
    while min(worked, failed) < ROUNDS:
        try:
            index.set_reconciled(dt.datetime.now(dt.UTC))
            index.key_before_newest(5)
            worked += 1
        except Transient:
            failed += 1
finally:
    ended.set()
    thread.join()
"""


def test_a_disk_that_fails_for_moments_never_makes_the_ledger_look_damaged(tmp_path: Path, shim: Path) -> None:
    """SQLite calls it malformed where a part could not be read, which can be read again a moment later."""
    disk = BadDisk(shim, tmp_path / "control", tmp_path / "data")
    (tmp_path / "data").mkdir()
    script = LEDGER.replace("ROUNDS", str(rounds(500, 3_000)))
    errors = map(str, (errno.ENOSPC, errno.EROFS, errno.EIO))
    command = [sys.executable, "-c", script, str(tmp_path / "data"), str(tmp_path / "control"), *errors]
    subprocess.run(command, env={**os.environ, **disk.variables}, check=True, timeout=PATIENCE_SECONDS)
