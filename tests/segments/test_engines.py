"""One outcome, wherever the work is done: inline, in worker processes, or on a real Dask cluster."""

from __future__ import annotations

import asyncio
import datetime as dt
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from bikeflow.core.errors import Permanent
from bikeflow.segments.engines import WorkerConfig
from bikeflow.segments.engines.dask import VERSIONS, build_elsewhere
from bikeflow.settings.sections import LogSettings, ProcessingSettings, StorageSettings
from tests.support.cluster import Cluster, cluster
from tests.support.lines import raw_file, station
from tests.support.road import RETRY, Road, open_road
from tests.support.s3server import S3Server
from tests.support.service import PATIENCE_SECONDS
from tests.support.wrm import wrm

DAY = dt.date(2025, 6, 1)
LONG_DAY_FILES = 600


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Cluster]:
    """A cluster with one worker, which has the S3 server's secrets from its own environment."""
    secrets = {"S3_ACCESS_KEY_ID": s3_server.access_key_id, "S3_SECRET_ACCESS_KEY": s3_server.secret_access_key}
    with cluster(tmp_path_factory.mktemp("dask"), secrets) as started:
        started.add_worker()
        yield started


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, s3_server: S3Server) -> Callable[[], StorageSettings]:
    """Gives fresh, empty places in either backend."""
    return StorageSettings if request.param == "local" else s3_server.settings


def name(number: int, files: int) -> str:
    at = dt.datetime.combine(DAY, dt.time()) + dt.timedelta(seconds=number * 86_400 // files)
    return f"dt={DAY}/wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt"


def odd_files() -> dict[str, bytes]:
    """Raw files of eight hours: good, flagged and rejected lines, unknown columns, and one that can't be read."""
    files = {
        name(n, 24): raw_file(*(station(i, bikes=str(n * i), spaces=str(n)) for i in range(1, 9)), station(9, lat=""))
        for n in range(8)
    }
    return {key: text.encode() for key, text in files.items()} | {name(9, 48): b"#id,nothing\n1,2\n"}


def long_day() -> dict[str, bytes]:
    """Raw files that take seconds to process; only the first has a bad line."""
    good = [station(i) for i in range(1, 301)]
    whole, first = raw_file(*good).encode(), raw_file(*good, station(301, bikes="-1")).encode()
    return {name(n, LONG_DAY_FILES): whole if n else first for n in range(LONG_DAY_FILES)}


def using(engine: str, dask: Cluster | None = None) -> ProcessingSettings:
    return ProcessingSettings.model_validate({"engine": engine, "scheduler": dask.address if dask else ""})


async def outcome(road: Road) -> dict[str, bytes]:
    """Both layers by key without prefix, after an audit of the lake."""
    assert (await road.verify()).findings == []
    assert road.index.files.dirty_partitions() == []
    found = await road.objects("enhanced/all/") | await road.objects("processed/all/")
    return {key.removeprefix(road.layout.prefix): data for key, data in found.items()}


async def expected(files: dict[str, bytes], data_dir: Path, *, sealed: bool) -> dict[str, bytes]:
    """What the inline engine makes of the same raw files."""
    async with open_road(StorageSettings(), data_dir) as road:
        await road.put_all(files)
        await process(road, sealed=sealed)
        return await outcome(road)


async def process(road: Road, *, sealed: bool) -> None:
    await road.reconciler.reconcile()
    if sealed:
        await road.reconciler.seal_finished_days(idle=True)
    runs = await road.process()
    assert [run.error for run in runs] == [None]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that only a look tells."""

    def look() -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.005)

    await asyncio.to_thread(look)


async def first_dead_letters(data_dir: Path) -> None:
    """Wait until the first batch of raw files is parsed, and others are not."""
    await until(lambda: any(path.is_file() for path in (data_dir / "lake/bike-data/gen_info/dlq").rglob("*.jsonl")))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@dataclass(frozen=True)
class Done:
    """How a command has ended."""

    code: int | None
    stdout: str
    stderr: str


async def backfill(data_dir: Path, *options: str, **environ: str) -> Done:
    """`bikeflow backfill` as a process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bikeflow", "backfill", "--data-dir", str(data_dir), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
        cwd=data_dir,
    )
    stdout, stderr = await process.communicate()
    return Done(process.returncode, stdout.decode(), stderr.decode())


@pytest.mark.parametrize("engine", ["process", "dask"])
async def test_every_engine_gives_the_same_bytes_and_the_same_record(
    engine: str, place: Callable[[], StorageSettings], tmp_path: Path, dask: Cluster
) -> None:
    storage = place()
    async with open_road(storage, tmp_path / engine, processing=using(engine, dask)) as road:
        await road.put_all(odd_files())
        (run,) = await road.process()
        assert (run.files, run.lines, run.rows, run.rejected) == (9, 73, 64, 9)
        (finished,) = road.finished
        assert finished.rejected_by_check == {"required": 8, "header": 1}
        assert finished.flagged_by_flag["over_capacity"] > 0
        assert road.processor.files_parsed == 9
        late = name(7 * 2 + 1, 48)
        await road.put_raw(late, raw_file(station(1)))
        (again,) = await road.process()
        assert (again.segments, again.files) == (1, 1)
        found = await outcome(road)
    everything = odd_files() | {late: raw_file(station(1)).encode()}
    assert found == await expected(everything, tmp_path / "inline", sealed=False)


@pytest.mark.slow
async def test_a_dask_worker_that_is_killed_in_mid_partition_leaves_exactly_one_output(
    tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A new worker may take long to come on a busy machine.
    monkeypatch.setattr("bikeflow.segments.engines.dask.LOOK_SECONDS", PATIENCE_SECONDS)
    async with open_road(StorageSettings(), tmp_path / "dask", processing=using("dask", dask)) as road:
        await road.put_all(long_day())
        work = asyncio.create_task(process(road, sealed=True))
        await first_dead_letters(tmp_path / "dask")
        victim = dask.workers[-1]
        victim.kill()
        assert await road.keys("enhanced/all/") == {}
        victim.wait()
        await asyncio.to_thread(dask.add_worker)
        await work
        found = await outcome(road)
    assert [Path(key).name for key in sorted(found)] == [
        "all_enhanced_20250601_235959.parquet",
        "all_processed_20250601_235959.parquet",
    ]
    assert found == await expected(long_day(), tmp_path / "inline", sealed=True)


@pytest.mark.slow
async def test_a_worker_process_that_is_killed_in_mid_partition_leaves_exactly_one_output(
    tmp_path: Path,
) -> None:
    async with open_road(StorageSettings(), tmp_path / "process", processing=using("process")) as road:
        await road.put_all(long_day())
        work = asyncio.create_task(process(road, sealed=True))
        await first_dead_letters(tmp_path / "process")
        (victim,) = multiprocessing.active_children()
        os.kill(victim.pid or 0, signal.SIGKILL)
        assert await road.keys("enhanced/all/") == {}
        await work
        found = await outcome(road)
    assert len(found) == 2
    assert found == await expected(long_day(), tmp_path / "inline", sealed=True)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
async def test_worker_processes_end_with_a_service_that_is_killed(tmp_path: Path) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_all(long_day())
    command = [sys.executable, "-m", "bikeflow", "backfill", "--engine", "process", "--data-dir", str(tmp_path)]
    service = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    await first_dead_letters(tmp_path)
    children = children_of(service.pid)
    assert children
    service.kill()
    await service.wait()
    await until(lambda: all(has_ended(child) for child in children))


async def test_backfill_on_a_cluster_from_the_command_line(tmp_path: Path, dask: Cluster) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_all(odd_files())
    done = await backfill(tmp_path, "--engine", "dask", "--scheduler", dask.address)
    assert (done.code, done.stdout.startswith("9 raw files processed")) == (0, True), done.stderr
    async with open_road(StorageSettings(), tmp_path) as road:
        assert len(await outcome(road)) == 2


async def test_a_cluster_without_workers_costs_a_run_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.segments.engines.dask.LOOK_SECONDS", 0.5)
    with cluster(tmp_path, {}) as empty:
        async with open_road(StorageSettings(), tmp_path / "data", processing=using("dask", empty)) as road:
            await road.put_raw(name(0, 1), raw_file(station(1)))
            (run,) = await road.process()
    assert run.error == f"segment 00:00-00:59: the Dask cluster at {empty.address} has no workers"


async def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        await road.put_all(odd_files())
    done = await backfill(
        tmp_path, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9", DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s"
    )
    assert done.code == 1
    assert [line for line in done.stderr.splitlines() if "event=" not in line] == [
        "error: can't reach the Dask scheduler at tcp://127.0.0.1:9: is it running there?"
    ]


async def test_a_missing_extra_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden/distributed"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')")
    done = await backfill(
        tmp_path, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9", PYTHONPATH=str(hidden.parent)
    )
    assert (done.code, done.stderr) == (
        2,
        'error: processing.engine = "dask" needs an extra that is not installed: pip install "bikeflow[dask]"\n',
    )


class TestAWorkerElsewhere:
    """What a worker on another machine refuses, before it touches anything."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> WorkerConfig:
        return WorkerConfig(tmp_path, (wrm(),), StorageSettings(), ProcessingSettings(), RETRY, LogSettings())

    async def refusal(self, config: WorkerConfig, versions: str = VERSIONS) -> str:
        async with open_road(StorageSettings(), config.data_dir / "other") as road:
            await road.put_all(odd_files())
            await road.reconciler.reconcile()
            work = road.index.files.dirty_segments(DAY)[0]
        with pytest.raises(Permanent) as refused:
            await build_elsewhere(config, work, versions)
        return str(refused.value)

    async def test_other_versions_would_write_other_bytes(self, config: WorkerConfig) -> None:
        assert "install the same versions" in await self.refusal(config, "bikeflow 0.0, pyarrow 1")

    async def test_a_local_lake_that_it_does_not_see_is_not_an_empty_one(self, config: WorkerConfig) -> None:
        assert "shared file system" in await self.refusal(config)

    async def test_the_secrets_of_the_store_are_its_own(
        self, config: WorkerConfig, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_secrets = {"access_key_id": SecretStr(""), "secret_access_key": SecretStr("")}
        storage = s3_server.settings().model_copy(update=no_secrets)
        monkeypatch.chdir(config.data_dir)
        for variable in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(variable, raising=False)
        assert "S3_ACCESS_KEY_ID" in await self.refusal(replace(config, storage=storage))
