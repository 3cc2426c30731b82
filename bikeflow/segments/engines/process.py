"""The engine of worker processes: each segment is built by one of them, with an interpreter of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from multiprocessing.connection import wait

from bikeflow.core.errors import Transient
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime import log
from bikeflow.runtime.memory import configure_allocators, give_back, memory_bytes
from bikeflow.segments.builder import Built
from bikeflow.segments.engines.base import Engine, WorkerConfig
from bikeflow.segments.engines.budget import MemoryBudget, build_bytes
from bikeflow.segments.engines.worker import build_segment
from bikeflow.store import ObjectCache, Store

_TRIES = 4
"""How often a segment is begun whose worker dies: one that needs too much memory would take down every one."""

logger = log.get_logger()


class ProcessEngine:
    """Hands segments to a pool of processes, which is replaced when one of them dies."""

    def __init__(self, config: WorkerConfig) -> None:
        self._worker_config = config
        self._budget = MemoryBudget(memory_bytes(config.processing.memory_limit))
        self._pool = self._new_pool()
        self._building = 0

    async def ready(self) -> None:
        """See `Engine.ready`: always."""

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """See `Engine.build`; `parsed` is told when the whole segment is done."""
        async with self._budget.room(build_bytes(work)):
            for _ in range(_TRIES):
                pool = self._pool
                self._building += 1
                try:
                    built = await asyncio.get_running_loop().run_in_executor(pool, _build, work)
                except BrokenProcessPool:
                    self._replace(pool)
                    continue
                finally:
                    self._building -= 1
                parsed(built.files)
                return built
        raise Transient(f"{_TRIES} worker processes died over it, perhaps of too little memory")

    def fail_fast(self) -> None:
        """See `Engine.fail_fast`: workers are not told, the deadline is for them too."""

    async def close(self) -> None:
        """End the workers: at once where they still work, as nobody wants to know any more."""
        if self._building:
            for process in multiprocessing.active_children():
                process.terminate()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        if self._pool is broken:  # else another segment that was in it has done so
            logger.warning("worker_process_died")
            self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        # Forking a process that has threads, as this one has, can leave a lock locked forever in the child.
        context = multiprocessing.get_context("spawn")
        workers = self._worker_config.processing.workers
        return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(self._worker_config,))


@asynccontextmanager
async def open_process(config: WorkerConfig, _store: Store, _cache: ObjectCache) -> AsyncIterator[Engine]:
    """An engine whose workers read and write the store themselves; they start with the first work."""
    engine = ProcessEngine(config)
    try:
        yield engine
    finally:
        await engine.close()


_worker_config: WorkerConfig
"""In a worker: where it works."""


def _start(config: WorkerConfig) -> None:
    """Prepare a worker process; it never outlives the process that it works for."""
    global _worker_config  # noqa: PLW0603 - a pool's workers have no other place for what they are given at the start
    _worker_config = config
    configure_allocators()
    log.configure(config.log)
    # Ctrl-C in a terminal goes to all processes, but what becomes of the work is for the first one to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _build(work: SegmentWork) -> Built:
    built = asyncio.run(build_segment(_worker_config, work))
    give_back()
    return built
