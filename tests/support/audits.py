"""The audit of a lake, as `bikeflow verify` does it, in this process."""

from __future__ import annotations

from bikeflow.core.scope import Scope
from bikeflow.service.work import audit
from bikeflow.settings import Settings
from bikeflow.store import open_store
from bikeflow.verifier import Finding, Report


def _silent(_done: int, _total: int) -> None:
    """No progress."""


async def verified(settings: Settings, sample: int | None = 0, scope: Scope | None = None) -> Report:
    """What `bikeflow verify` finds; `sample` None: all raw files are parsed again."""
    async with open_store(settings.storage, settings.data_dir) as store:
        report, _ = await audit(settings, store, scope or Scope(), sample=sample, tell=_silent)
        return report


async def repaired(
    settings: Settings, sample: int | None = 0, scope: Scope | None = None
) -> tuple[Report, list[Finding]]:
    """What `bikeflow verify --repair` leaves, and what it found."""
    async with open_store(settings.storage, settings.data_dir) as store:
        return await audit(settings, store, scope or Scope(), sample=sample, tell=_silent, repair=True)
