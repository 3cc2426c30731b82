"""The one system of a configuration without `[[systems]]`, for tests."""

from __future__ import annotations

import datetime as dt

from bikeflow.core.layout import Layout
from bikeflow.core.model import Partition
from bikeflow.feeds import layout_of
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, RulesSettings, StorageSettings
from bikeflow.settings.systems import System, the_one_system

PREFIX = StorageSettings().prefix


def wrm(
    feed: FeedSettings | None = None, storage: StorageSettings | None = None, rules: RulesSettings | None = None
) -> System:
    """The system `wrm` with these settings."""
    return the_one_system(feed or FeedSettings(), storage or StorageSettings(), rules or RulesSettings())


def wrm_layout(prefix: str = PREFIX) -> Layout:
    """The layout of the system `wrm` below this prefix."""
    return layout_of(wrm(storage=StorageSettings(prefix=prefix)))


def wrm_day(day: dt.date) -> Partition:
    """A day of the system `wrm`."""
    return Partition(wrm().id, day)


def systems_of(settings: Settings) -> tuple[System, ...]:
    """The systems of a configuration."""
    return settings.all_systems
