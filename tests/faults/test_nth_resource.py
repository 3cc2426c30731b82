"""Every nth file descriptor, thread or large piece of memory can't be had: a real service loses and doubles nothing."""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.test_disk_faults import SETTINGS, shows_all_but_lost
from tests.support.oracle import local_lake, serving
from tests.support.preload import built
from tests.support.rounds import rounds
from tests.support.service import Service, running

KINDS = {"descriptors": 1, "threads": 2, "memory": 3}
pytestmark = pytest.mark.slow


class Shortage:
    """Makes every nth call of a kind fail in the processes that are started with its `variables`."""

    def __init__(self, library: Path, control: Path) -> None:
        control.write_bytes(bytes(mmap.PAGESIZE))
        self._file = control.open("r+b")
        self._page = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self.variables = {"LD_PRELOAD": str(library), "NTHFAULT_CONTROL": str(control)}

    def begin(self, kind: str, every: int) -> None:
        """From now on."""
        self._page[:8] = struct.pack("ii", KINDS[kind], every)

    def end(self) -> None:
        """No more."""
        self._page[:4] = struct.pack("i", 0)

    @property
    def failed(self) -> int:
        """How many calls have failed."""
        (count,) = struct.unpack("i", self._page[8:12])
        return int(count)

    def close(self) -> None:
        """Let go of the control file."""
        self._page.close()
        self._file.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    found = built("nthfault.c", tmp_path_factory.mktemp("nthfault"))
    if found is None:
        pytest.skip("needs Linux and a C compiler (cc) to make calls fail")
    return found


@pytest.fixture
def shortage(tmp_path: Path, library: Path) -> Iterator[Shortage]:
    """A shortage that has not begun."""
    found = Shortage(library, tmp_path / "control")
    yield found
    found.close()


@pytest.mark.parametrize("every", [7, 1, 2, 3, 20][: rounds(1, 5)])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_nth_of_a_kind_is_not_there(tmp_path: Path, shortage: Shortage, kind: str, every: int) -> None:
    """It may end, as it does where it can't go on: then the service manager starts it again.

    A raw file for which there was no memory gives a dead letter; it is processed again by `bikeflow dlq replay`.
    """
    data_dir = tmp_path / "data"
    async with serving(padding=300_000 if kind == "memory" else 0) as oracle:
        patient = {**SETTINGS, "feed.breaker_failures": 1_000}
        async with running(data_dir, oracle.url, settings=patient, variables=shortage.variables) as service:
            await service.logged("event=refreshed")
            shortage.begin(kind, every)
            served = len(oracle.served)
            await over(service, lambda: len(oracle.served) >= served + 6 and shortage.failed > 0)
            shortage.end()
            ended = service.process.returncode
            if ended is None:
                if kind == "memory":
                    await service.told("refreshed", service.log().count("event=refreshed ") + 1)
                else:
                    await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
                assert await service.stop() == 0
            log = service.log()
        await replay(data_dir)
        async with running(data_dir, oracle.url, settings=SETTINGS) as service:
            await service.logged("event=refreshed")
            oracle.frozen = True
            await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
            assert await service.stop() == 0
            oracle.audit(local_lake(data_dir), service.database, log + service.log()).assert_exactly_once()


async def replay(data_dir: Path) -> None:
    """Process what has given dead letters again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", "dlq", "replay", "--data-dir", str(data_dir), stdout=subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def over(service: Service, condition: Callable[[], bool]) -> None:
    """Wait until it has gone on for a while, or has ended."""
    for _ in range(1_200):
        if condition() or service.process.returncode is not None:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it does nothing\n{service.log()}")


SNAPSHOTS = """
import asyncio, datetime as dt, os, sys
from pathlib import Path
from bikeflow.core.layout import Layout
from bikeflow.ingest.delivery import Delivery
from bikeflow.ingest.spool import Spool
from bikeflow.settings.sections import RetrySettings
from bikeflow.store.local import LocalStore

async def main(folder):
    spool = await Spool.open(folder / "spool", 10_000)
    layout = Layout("wrm", "", "wrm_stations", ".txt")
    delivery = Delivery(LocalStore(folder / "lake"), layout, spool, RetrySettings())
    at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    await delivery.accept(at, "a", b"the first")
    await delivery.drain()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(98):  # of every 100 calls, the last will fail: that after the file itself has been opened
        os.close(os.open("/dev/null", os.O_RDONLY))
    print(await delivery.accept(at + dt.timedelta(seconds=1), "b", b"the second"))
    print(spool.entries, os.listdir(folder / "spool"), flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_snapshot_that_went_past_the_spool_leaves_no_file_there(tmp_path: Path, shortage: Shortage) -> None:
    """Its file is there, but its directory can't be brought to the disk: it would come up again at the next start."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SNAPSHOTS,
        tmp_path,
        env={**os.environ, **shortage.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    while await process.stdout.readline() not in {b"ready\n", b""}:
        pass
    shortage.begin("descriptors", 100)
    told, _ = await process.communicate(b"\n")
    assert shortage.failed == 1
    *_, key, left = told.decode().splitlines()
    assert (tmp_path / "lake" / key).read_bytes() == b"the second"
    assert left == "[] []"
