"""The gauges: states of the pipeline, asked for at each scrape, so that none is ever out of date."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bikeflow.model import UTC, DatabasePublished, Vitals
from bikeflow.settings import Settings
from bikeflow.surfaces.observations import Observations
from bikeflow.surfaces.readiness import Verdict


class States(Collector):
    """A collector for prometheus-client; what nobody knows yet is left out."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        seen: Observations,
        vitals: Callable[[], Vitals | None],
        verdict: Callable[[], Verdict],
    ) -> None:
        self._settings = settings
        self._seen = seen
        self._vitals = vitals
        self._verdict = verdict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges as they are now."""
        now = dt.datetime.now(UTC)
        yield GaugeMetricFamily(
            "bikeflow_start_time_seconds", "Start of the service, in Unix time.", self._seen.started_at.timestamp()
        )
        part = GaugeMetricFamily("bikeflow_part_ready", "1 while this part really works.", labels=["part"])
        for name, fault in self._verdict().items():
            part.add_metric([name], fault is None)
        yield part
        yield from _limits(self._settings())
        vitals = self._vitals()
        if vitals is not None:
            yield from _waiting(vitals)
        if self._seen.published is not None:
            yield from _database(self._seen.published, now)


def _limits(settings: Settings) -> Iterator[GaugeMetricFamily]:
    """What the other numbers are to be compared with."""
    yield GaugeMetricFamily(
        "bikeflow_feed_interval_seconds", "Configured time between fetches.", settings.feed.interval_seconds
    )
    yield GaugeMetricFamily(
        "bikeflow_spool_limit_bytes",
        "Size of waiting snapshots at which new ones are lost.",
        settings.feed.spool_max_bytes,
    )
    with suppress(OSError):
        free = shutil.disk_usage(settings.data_dir).free
        yield GaugeMetricFamily("bikeflow_disk_free_bytes", "Room on the disk of data_dir.", free)


def _waiting(vitals: Vitals) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily(
        "bikeflow_spool_snapshots", "Snapshots that wait on disk for the store.", vitals.spool_snapshots
    )
    yield GaugeMetricFamily("bikeflow_spool_size_bytes", "Size of these snapshots.", vitals.spool_bytes)
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
