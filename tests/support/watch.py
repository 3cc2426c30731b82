"""A service at work, and what it says of itself over HTTP."""

from __future__ import annotations

import asyncio
import datetime as dt

import aiohttp

from bikeflow.core.model import UTC
from tests.support.service import PATIENCE_SECONDS, Service

_LOOK_SECONDS = 0.02
_LONGEST_RUN_SECONDS = 60


class Watch:
    """Asks a service's health, over a session whose base is the service's URL."""

    def __init__(self, service: Service, client: aiohttp.ClientSession) -> None:
        self.service = service
        self._client = client

    async def faults(self) -> dict[str, dt.datetime]:
        """What /readyz says now: since when each part that does not work has not."""
        try:
            async with self._client.get("/readyz") as answer:
                parts = (await answer.json())["parts"]
        except aiohttp.ClientConnectionError as error:
            ended = self.service.process.returncode
            raise AssertionError(f"{error}; exit code {ended}\n{self.service.log()[-5000:]}") from error
        broken = {name: dt.datetime.fromisoformat(part["since"]) for name, part in parts.items() if not part["works"]}
        assert (answer.status == 200) == (not broken)
        return broken

    async def reasons(self) -> dict[str, str]:
        """Why the parts that do not work do not."""
        async with self._client.get("/readyz") as answer:
            parts = (await answer.json())["parts"]
        return {name: part["reason"] for name, part in parts.items() if not part["works"]}

    async def metric(self, sample: str) -> float:
        """The value of a sample, such as `bikeflow_spool_snapshots`."""
        async with self._client.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} "))

    def waiting(self) -> int:
        """Snapshots in the spool."""
        return len(list((self.service.data_dir / "spool").glob("*/*.txt")))

    async def breaks(self, *parts: str, **reasons: str) -> None:
        """Wait until these parts are said not to work (for reasons with these words), since the time of the fault."""
        # A run that was under way when the fault began, and fails of it, has failed since it was begun.
        began = dt.datetime.now(UTC) - dt.timedelta(seconds=_LONGEST_RUN_SECONDS)
        for _ in range(int(PATIENCE_SECONDS / _LOOK_SECONDS)):
            broken, why = await self.faults(), await self.reasons()
            if broken.keys() >= set(parts) and all(words in why.get(part, "") for part, words in reasons.items()):
                assert all(began < since <= dt.datetime.now(UTC) for since in broken.values()), (began, broken)
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise AssertionError(f"waited for {parts} {reasons}: {why}\n{self.service.log()[-5000:]}")

    async def recovers(self) -> None:
        """Wait until all is green and delivered."""
        for _ in range(int(PATIENCE_SECONDS / _LOOK_SECONDS)):
            if not await self.faults() and not self.waiting():
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise AssertionError(f"still broken: {await self.faults()}\n{self.service.log()[-5000:]}")
