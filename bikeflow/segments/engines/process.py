"""The engine of worker processes: each segment is built by one of them, with an interpreter of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from bikeflow.core.errors import Transient
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime import log
from bikeflow.runtime.memory import configure_allocators, give_back, memory_bytes
from bikeflow.segments.builder import Built
from bikeflow.segments.engines.base import Engine, MemoryBudget, WorkerConfig, build_bytes, build_segment
from bikeflow.settings.sections import LogSettings

_TRIES = 4
"""How often a segment is begun whose worker dies: one that needs too much memory would take down every one."""

logger = log.get_logger()


class ProcessEngine(Engine):
    """Hands segments to a pool of processes, which is replaced when one of them dies.

    They read and write the store themselves, and start with the first work.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._worker_config = config
        self._budget = MemoryBudget(memory_bytes(config.processing.memory_limit))
        self._pool = self._new_pool()
        self._building = 0

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """See `Engine.build`; `parsed` is called once the whole segment is done."""
        async with self._budget.room(build_bytes(work)):
            for _ in range(_TRIES):
                pool = self._pool
                self._building += 1
                try:
                    built = await asyncio.get_running_loop().run_in_executor(pool, _build, self._worker_config, work)
                except BrokenProcessPool:
                    self._replace(pool)
                    continue
                finally:
                    self._building -= 1
                parsed(len(built.parsed))
                return built
        raise Transient(f"{_TRIES} worker processes died over it, perhaps of too little memory")

    async def close(self) -> None:
        """End the workers, at once where they still work: their caller is gone."""
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
        return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(self._worker_config.log,))


def _start(settings: LogSettings) -> None:
    """Prepare a worker process; it never outlives the process that it works for."""
    configure_allocators()
    log.configure(settings)
    # Ctrl-C in a terminal goes to all processes, but what becomes of the work is for the first one to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _build(config: WorkerConfig, work: SegmentWork) -> Built:
    built = asyncio.run(build_segment(config, work))
    give_back()
    return built
