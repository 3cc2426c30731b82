"""The gauges: states of the pipeline, asked for at each scrape, so that none is ever out of date."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bikeflow.core.model import UTC, DatabasePublished, Vitals
from bikeflow.health.health import Health
from bikeflow.settings import Settings


class States(Collector):
    """A collector for prometheus-client. A gauge without a value yet is left out."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges as they are now."""
        now = dt.datetime.now(UTC)
        yield GaugeMetricFamily(
            "bikeflow_start_time_seconds",
            "Start of the service, in Unix time.",
            self._health.seen.started_at.timestamp(),
        )
        part = GaugeMetricFamily("bikeflow_part_ready", "1 while this part really works.", labels=["part"])
        for name, fault in self._health.verdict().items():
            part.add_metric([name], fault is None)
        yield part
        yield from _limits(self._health.settings)
        vitals = self._health.vitals()
        if vitals is not None:
            yield from _waiting(vitals)
        if self._health.seen.published is not None:
            yield from _database(self._health.seen.published, now)


def _limits(settings: Settings) -> Iterator[GaugeMetricFamily]:
    """What the other numbers are to be compared with."""
    feeds = {system.id: system.feed for system in settings.all_systems}
    yield _by_system(
        "bikeflow_feed_interval_seconds",
        "Configured time between fetches.",
        {system_id: feed.interval_seconds for system_id, feed in feeds.items()},
    )
    yield _by_system(
        "bikeflow_spool_limit_bytes",
        "Size of waiting snapshots at which new ones are lost.",
        {system_id: feed.spool_max_bytes for system_id, feed in feeds.items()},
    )
    with suppress(OSError):
        free = shutil.disk_usage(settings.data_dir).free
        yield GaugeMetricFamily("bikeflow_disk_free_bytes", "Room on the disk of data_dir.", free)


def _waiting(vitals: Vitals) -> Iterator[GaugeMetricFamily]:
    yield _by_system(
        "bikeflow_spool_snapshots",
        "Snapshots that wait on disk for the store.",
        {system_id: lane.spool_snapshots for system_id, lane in vitals.lanes.items()},
    )
    yield _by_system(
        "bikeflow_spool_size_bytes",
        "Size of these snapshots.",
        {system_id: lane.spool_bytes for system_id, lane in vitals.lanes.items()},
    )
    jobs = GaugeMetricFamily("bikeflow_queue_jobs", "Partitions that wait or are being processed.", labels=["state"])
    jobs.add_metric(["waiting"], vitals.queue_waiting)
    jobs.add_metric(["running"], vitals.queue_in_flight)
    yield jobs


def _database(published: DatabasePublished, now: dt.datetime) -> Iterator[GaugeMetricFamily]:
    if published.newest_snapshot is not None:
        yield GaugeMetricFamily(
            "bikeflow_newest_snapshot_age_seconds",
            "Time since the newest snapshot in the published database was fetched.",
            (now - published.newest_snapshot).total_seconds(),
        )
    yield GaugeMetricFamily(
        "bikeflow_database_age_seconds",
        "Time since the database was published.",
        (now - published.at).total_seconds(),
    )
    yield GaugeMetricFamily("bikeflow_database_size_bytes", "Size of the published database.", published.size_bytes)
    yield GaugeMetricFamily("bikeflow_database_rows", "Rows of history in the published database.", published.rows)
    for name, text, value in (
        ("stations", "Stations of the newest snapshot inside the service area.", published.stations),
        ("outside_stations", "Stations of the newest snapshot outside the service area.", published.stations_outside),
        ("empty_stations", "Stations inside the service area without bikes, with spaces.", published.stations_empty),
        ("full_stations", "Stations inside the service area with bikes, and no room.", published.stations_full),
        ("free_bikes", "Free bikes of the newest snapshot inside the service area.", published.bikes),
        ("outside_free_bikes", "Free bikes of the newest snapshot outside the service area.", published.bikes_outside),
        ("future_snapshots", "Snapshots dated in the future, which do not count yet.", published.future_snapshots),
    ):
        yield GaugeMetricFamily(f"bikeflow_{name}", text, value)


def _by_system(name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["system"])
    for system_id, value in values.items():
        family.add_metric([system_id], value)
    return family
