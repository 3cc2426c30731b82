"""The storm soak: the way to the store breaks at random, in every way, for random times; now and then there is a kill.

After each storm the service must be green and its spool empty by itself; after each life of a service the oracle counts
all rows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from tests.soak.kills import Soak, Tally
from tests.support import chaos_proxy
from tests.support.chaos_proxy import ChaosProxy, Fault, Request, answering, everything, proxying
from tests.support.oracle import serving
from tests.support.s3server import S3Server
from tests.support.service import Service
from tests.support.watch import Watch

FAULTS: Mapping[str, Fault] = {
    "500": answering(500, "InternalError"),
    "502": answering(502),
    "503": answering(503, "SlowDown", Retry_After="1"),
    "429": answering(429, "TooManyRequests", Retry_After="1"),
    "403": answering(403, "InvalidAccessKeyId"),
    "clock": answering(403, "RequestTimeTooSkewed"),
    "404": answering(404),
    "page": answering(200),
    "reset": chaos_proxy.reset,
    "late reset": chaos_proxy.reset_after_effect,
    "half-closed": chaos_proxy.half_close,
    "truncated": chaos_proxy.truncate,
    "flipped": chaos_proxy.flip,
    "latency": chaos_proxy.delay,
    "bandwidth": chaos_proxy.trickle,
    "hang": chaos_proxy.hang,
    "late hang": chaos_proxy.hang_after_effect,
}
OPERATIONS = ("list", "get", "put", "head", "delete")
LONGEST_SECONDS = 5.0
STORMS_A_LIFE = 8
KILL_SHARE = 0.15


class Storms:
    """What goes wrong between a service and its store."""

    def __init__(self, run: Soak, proxy: ChaosProxy, seed: int) -> None:
        self._run = run
        self._proxy = proxy
        self._chance = random.Random(seed)

    async def life(self, end: float) -> None:
        """Start the service and let some storms pass over it, the last of which may be its end; then count."""
        async with self._run.service() as service:
            async with aiohttp.ClientSession(await service.url()) as client:
                watch = Watch(service, client)
                await watch.recovers()
                for _ in range(STORMS_A_LIFE):
                    if await self._storm(service, watch) or time.monotonic() > end:
                        break
            if service.process.returncode is None:
                service.process.kill()
                await service.process.wait()
            self._run.keep_log(service)
        await self._run.settle()

    async def _storm(self, service: Service, watch: Watch) -> bool:
        """One fault from its beginning to the recovery from it; True where it was the end."""
        tally, name = self._run.tally, self._chance.choice(sorted(FAULTS))
        self._run.interfere()
        self._proxy.breaks(FAULTS[name], self._concerned())
        await asyncio.sleep(self._chance.uniform(0.1, LONGEST_SECONDS))
        tally.storms[name] = tally.storms.get(name, 0) + 1
        if self._chance.random() < KILL_SHARE:
            service.process.kill()
            await service.process.wait()
            self._proxy.heals()
            tally.kills["in a storm"] = tally.kills.get("in a storm", 0) + 1
            return True
        self._proxy.heals()
        ended = time.monotonic()
        await watch.recovers()
        tally.recoveries += 1
        tally.worst_recovery_seconds = max(tally.worst_recovery_seconds, time.monotonic() - ended)
        return False

    def _concerned(self) -> Callable[[Request], bool]:
        """All requests, those of one kind, or some of them."""
        operation, share = self._chance.choice(OPERATIONS), self._chance.random()
        return self._chance.choice([
            everything,
            lambda request: request.operation == operation,
            lambda request: self._chance.random() < share,
        ])  # fmt: skip


async def storms(
    directory: Path, *, minutes: float, seed: int, server: S3Server, tell: Callable[[str], None] = lambda line: None
) -> Tally:
    """Let storms pass for so long; raises AssertionError at the first loss, doubling, or lasting fault."""
    end = time.monotonic() + minutes * 60
    async with serving(repeats=2) as oracle, proxying(server) as proxy:
        run = Soak(directory, oracle, seed, server, proxy.server.endpoint_url)
        weather = Storms(run, proxy, seed)
        while time.monotonic() < end:
            await weather.life(end)
            verdict = run.tally.verdict
            tell(f"{sum(run.tally.storms.values())} storms, {verdict.expected} rows expected, {verdict.found} found")
        return run.tally
