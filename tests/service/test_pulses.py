"""Each role of a pipeline at work shows that it gets on, and when it has nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from bikeflow.core.events import Events
from bikeflow.core.model import Pulse
from bikeflow.service.roles import Roles
from bikeflow.settings import Settings
from tests.support.oracle import serving


async def test_every_role_counts_what_it_ends_and_those_that_wait_for_work_are_idle(tmp_path: Path) -> None:
    async with serving() as oracle:
        settings = Settings.model_validate(
            {
                "data_dir": tmp_path,
                "feed": {"url": oracle.url, "interval_seconds": 1},
                "watcher": {"poll_seconds": 0.1},
                "warehouse": {"debounce_seconds": 0},
            }
        )
        roles = await Roles.start(settings, Events())
        seen: list[Mapping[str, Pulse]] = []
        try:
            while len(oracle.served) < 4 or not all(pulse.idle for pulse in _that_wait(seen[-1])):
                seen.append(roles.pipeline.pulses())
                await asyncio.sleep(0.005)
        finally:
            await roles.finish()
    for role in ("fetcher wrm", "delivery wrm", "watcher wrm", "processors", "refresher"):
        steps = [pulses[role].steps for pulses in seen]
        assert steps == sorted(steps)
        assert steps[-1] >= 3, role
    for role in ("processors", "refresher"):
        assert {pulses[role].idle for pulses in seen} == {True, False}, role
    assert not any(pulses["fetcher wrm"].idle for pulses in seen)


def _that_wait(pulses: Mapping[str, Pulse]) -> list[Pulse]:
    return [pulse for role, pulse in pulses.items() if role not in ("fetcher wrm", "watcher wrm")]
