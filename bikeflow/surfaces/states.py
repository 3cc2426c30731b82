"""The gauges: states of the pipeline, asked for at each scrape, so that none is ever out of date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bikeflow.model import UTC, DatabasePublished, Vitals
from bikeflow.surfaces.observations import Observations
from bikeflow.surfaces.readiness import Verdict


class States(Collector):
    """A collector for prometheus-client; what nobody knows yet is left out."""

    def __init__(self, seen: Observations, vitals: Callable[[], Vitals | None], verdict: Callable[[], Verdict]) -> None:
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
        vitals = self._vitals()
        if vitals is not None:
            yield from _waiting(vitals)
        if self._seen.published is not None:
            yield from _database(self._seen.published, now)


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
    yield GaugeMetricFamily("bikeflow_stations", "Stations in the published database.", published.stations)
    yield GaugeMetricFamily("bikeflow_free_bikes", "Free bikes in the newest snapshot.", published.bikes)
