"""What Prometheus is told: counts from events, and states that are asked for at the moment of a scrape.

Names are in base units. The values of labels come from our code and never from a feed, so that no feed can make new
time series.
"""

from __future__ import annotations

import datetime as dt
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bikeflow import __version__
from bikeflow.core import model
from bikeflow.core.schema import FLAGS
from bikeflow.health.health import Health

Metric = TypeVar("Metric", Counter, Gauge, Histogram)
_QUICK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_LAG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5)
_ENDINGS = ("done", "failed")


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, health: Health) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # each would be a time series of its own
        self.registry = CollectorRegistry()
        self._pages: dict[str, tuple[float, bytes]] = {}
        self._states = _States(health)
        self.registry.register(self._states)
        ProcessCollector(registry=self.registry)
        Info("bikeflow_build", "The running bikeflow.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self._systems = [system.id for system in health.settings.all_systems]
        self._of_systems: list[tuple[Counter | Histogram, dict[str, Sequence[str]]]] = []
        """The metrics that have a series for each system, with the values of their other labels."""
        self._count_of_systems(self._systems)
        self._count_of_all()

    def _add(
        self, kind: type[Metric], name: str, text: str, labels: Mapping[str, Sequence[str]], **more: Any
    ) -> Metric:
        """A metric whose series begin at zero, as far as the values of its labels are known."""
        metric = kind(f"bikeflow_{name}", text, list(labels), registry=self.registry, **more)
        for values in product(*labels.values()) if labels else ():
            metric.labels(*values)
        if "system" in labels and not isinstance(metric, Gauge):
            self._of_systems.append((metric, {name: known for name, known in labels.items() if name != "system"}))
        return metric

    def adopt(self, systems: Sequence[str]) -> None:
        """Count these systems from now on: what was counted of others goes, and new ones begin at zero."""
        for metric, others in self._of_systems:
            for system in set(self._systems) - set(systems):
                metric.remove_by_labels({"system": system})
            for values in product(set(systems) - set(self._systems), *others.values()):
                metric.labels(*values)
        self._systems = list(systems)

    def _count_of_systems(self, systems: Sequence[str]) -> None:
        add, system = self._add, {"system": systems}
        self._fetches = add(
            Counter, "fetches", "Fetches that have ended, by outcome.", {**system, "outcome": get_args(model.Outcome)}
        )
        self._fetched_bytes = add(Counter, "fetched_bytes", "Size of the documents, unpacked.", system)
        self._duplicates = add(
            Counter, "duplicate_snapshots", "Fetches that gave the same document again, or 304.", system
        )
        self._fetch_seconds = add(
            Histogram, "fetch_duration_seconds", "Duration of a fetch with its retries.", system, buckets=_QUICK
        )
        self._runs = add(
            Counter, "runs", "Runs over a partition that have ended, by outcome.", {**system, "outcome": _ENDINGS}
        )
        self._files = add(Counter, "raw_files", "Raw files parsed.", system)
        self._dropped = add(
            Counter, "dropped_documents", "Unusable documents that could not be kept, or were kept long enough.", system
        )
        self._drifted = add(Counter, "drifted_files", "Raw files parsed that have unknown columns.", system)
        self._lines = add(Counter, "lines", "Data lines of those raw files.", system)
        self._rows = add(Counter, "rows", "Accepted lines.", system)
        self._rejected = add(
            Counter, "rejected_lines", "Rejected lines, by the check that they failed.", {**system, "check": ()}
        )
        self._flagged = add(
            Counter, "flagged_rows", "Accepted lines that are odd, by flag.", {**system, "flag": tuple(FLAGS)}
        )
        self._run_seconds = add(Histogram, "run_duration_seconds", "Duration of a run.", system, buckets=_LONG)
        self._waited = add(
            Histogram, "queue_wait_seconds", "Time that a job waited for its run.", system, buckets=_QUICK
        )

    def _count_of_all(self) -> None:
        add = self._add
        self._refresh_seconds = add(
            Histogram, "refresh_duration_seconds", "Duration of a refresh that published the database.", {},
            buckets=_LONG,
        )  # fmt: skip
        target = {"target": get_args(model.ExportTarget)}
        self._exports = add(
            Counter, "exports", "Exports of the published database that have ended, by target and outcome.",
            {**target, "outcome": _ENDINGS},
        )  # fmt: skip
        self._skipped = add(
            Gauge, "export_skipped_rows",
            "Rows of the published database that the target can't hold, and lacks since the last export.", target,
        )  # fmt: skip
        # Named as Prometheus names its own; before any reload, the settings of the start are in force.
        self._reload_successful = add(
            Gauge, "config_last_reload_successful",
            "1 while the last reload of the settings was applied, 0 where it was refused.", {},
        )  # fmt: skip
        self._reload_successful.set(1)
        self._reload_success_at = add(
            Gauge, "config_last_reload_success_timestamp_seconds",
            "When the settings in force were loaded, in Unix time.", {},
        )  # fmt: skip
        self._reload_success_at.set_to_current_time()
        self._messages = add(
            Counter, "alert_messages", "Messages to people, by whether any of their channels took them.",
            {"outcome": ("arrived", "refused")},
        )  # fmt: skip
        self._requests = add(
            Counter, "store_requests", "Requests to the object store that have ended, by operation and outcome.",
            {"operation": get_args(model.StoreOperation), "outcome": get_args(model.StoreOutcome)},
        )  # fmt: skip
        self.loop_lag_seconds = add(
            Histogram, "event_loop_lag_seconds",
            "How much later than asked the event loop came back, sampled ten times a second.", {}, buckets=_LAG,
        )  # fmt: skip

    def observe(self, event: model.Event) -> None:
        """Count an event."""
        self._pages.clear()
        match event:
            case model.FetchFinished(system_id=system, outcome=fetch):
                self._fetches.labels(system, fetch.outcome).inc()
                self._fetched_bytes.labels(system).inc(fetch.bytes)
                self._duplicates.labels(system).inc(fetch.outcome in ("duplicate", "not_modified"))
                self._fetch_seconds.labels(system).observe(fetch.duration_seconds)
            case model.SchemaDrifted(system_id=system):
                self._drifted.labels(system).inc()
            case model.DocumentsDropped():
                self._dropped.labels(event.system_id).inc(event.count)
            case model.RunFinished():
                self._ran(event)
            case model.DatabasePublished():
                self._refresh_seconds.observe(event.duration_seconds)
            case _:
                self._observe_more(event)

    def _observe_more(self, event: model.Event) -> None:
        match event:
            case model.SettingsReloaded():
                self._reloaded(event)
            case model.ExportFinished():
                self._exports.labels(event.target, event.outcome).inc()
                if event.outcome == "done":
                    self._skipped.labels(event.target).set(event.skipped_rows)
            case model.AlertSent():
                self._messages.labels("arrived" if event.arrived else "refused").inc()
            case model.StoreAnswered():
                self._requests.labels(event.operation, event.outcome).inc()

    def take_states(self) -> None:
        """Take note of the states as they are now, in the event loop's thread; `page` may then come from another."""
        self._states.taken = list(self._states.now())

    def page(self, accept: str) -> tuple[bytes, str]:
        """The answer to a scrape, in the format that the header `accept` asks for, and its content type.

        While nothing happens, it is made again in no more than a fifth of the time.
        """
        encode, content_type = choose_encoder(accept)
        began = time.monotonic()
        until, body = self._pages.get(content_type, (began, b""))
        if began >= until:
            body = encode(self.registry)
            ended = time.monotonic()
            self._pages[content_type] = ended + 4 * (ended - began), body
        return body, content_type

    def _reloaded(self, event: model.SettingsReloaded) -> None:
        self._reload_successful.set(event.applied)
        if event.applied:
            self._reload_success_at.set(event.at.timestamp())

    def _ran(self, event: model.RunFinished) -> None:
        run, system = event.run, event.run.partition.system_id
        self._runs.labels(system, run.outcome).inc()
        self._files.labels(system).inc(run.files)
        self._lines.labels(system).inc(run.lines)
        self._rows.labels(system).inc(run.rows)
        for check, lines in event.rejected_by_check.items():
            self._rejected.labels(system, check).inc(lines)
        for flag, rows in event.flagged_by_flag.items():
            self._flagged.labels(system, flag).inc(rows)
        self._run_seconds.labels(system).observe((run.finished_at - run.started_at).total_seconds())
        self._waited.labels(system).observe(event.waited_seconds)


class _States(Collector):
    """The gauges: states of the pipeline, asked for at each scrape. One without a value yet is left out."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.taken: list[GaugeMetricFamily] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges as they were when they were taken, or else as they are now."""
        yield from self.now() if self.taken is None else self.taken

    def now(self) -> Iterator[GaugeMetricFamily]:
        """All gauges as they are now."""
        health, settings = self._health, self._health.settings
        yield _gauge("start_time_seconds", "Start of the service, in Unix time.", health.seen.started_at.timestamp())
        ready = {name: fault is None for name, fault in health.verdict().items()}
        yield _gauge("part_ready", "1 while this part really works.", ready, label="part")
        intervals = {system.id: system.feed.interval_seconds for system in settings.all_systems}
        yield _gauge("feed_interval_seconds", "Configured time between fetches.", intervals)
        limits = {system.id: system.feed.spool_max_bytes for system in settings.all_systems}
        yield _gauge("spool_limit_bytes", "Size of waiting snapshots at which new ones are lost.", limits)
        with suppress(OSError):
            free = shutil.disk_usage(settings.data_dir).free
            yield _gauge("disk_free_bytes", "Room on the disk of data_dir.", free)
        if (vitals := health.vitals()) is not None:
            snapshots = {system_id: lane.spool_snapshots for system_id, lane in vitals.lanes.items()}
            yield _gauge("spool_snapshots", "Snapshots that wait on disk for the store.", snapshots)
            in_memory = {system_id: lane.memory_snapshots for system_id, lane in vitals.lanes.items()}
            yield _gauge("spool_memory_snapshots", "Those of them that are in memory alone.", in_memory)
            sizes = {system_id: lane.spool_bytes for system_id, lane in vitals.lanes.items()}
            yield _gauge("spool_size_bytes", "Size of these snapshots.", sizes)
            missing = {system_id: lane.missing_files for system_id, lane in vitals.lanes.items()}
            yield _gauge("missing_raw_files", "Known raw files that are missing from the store.", missing)
            jobs = {"waiting": vitals.queue_waiting, "running": vitals.queue_in_flight}
            yield _gauge("queue_jobs", "Partitions that wait or are being processed.", jobs, label="state")
        if health.seen.published is not None:
            yield from _database(health.seen.published)


def _gauge(name: str, text: str, value: float | Mapping[str, float], label: str = "system") -> GaugeMetricFamily:
    """A gauge with one value, or with one for each value of a label."""
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(f"bikeflow_{name}", text, value)
    family = GaugeMetricFamily(f"bikeflow_{name}", text, labels=[label])
    for key, number in value.items():
        family.add_metric([key], number)
    return family


def _database(published: model.DatabasePublished) -> Iterator[GaugeMetricFamily]:
    now = dt.datetime.now(dt.UTC)
    if published.newest_snapshot is not None:
        age = (now - published.newest_snapshot).total_seconds()
        text = "Time since the newest snapshot in the published database was fetched."
        yield _gauge("newest_snapshot_age_seconds", text, age)
    for name, text, value in (
        ("database_age_seconds", "Time since the database was published.", (now - published.at).total_seconds()),
        ("database_size_bytes", "Size of the published database.", published.size_bytes),
        ("database_rows", "Rows of history in the published database.", published.rows),
        ("stations", "Stations of the newest snapshot inside the service area.", published.stations),
        ("outside_stations", "Stations of the newest snapshot outside the service area.", published.stations_outside),
        ("empty_stations", "Stations inside the service area without bikes, with spaces.", published.stations_empty),
        ("full_stations", "Stations inside the service area with bikes, and no room.", published.stations_full),
        ("free_bikes", "Free bikes of the newest snapshot inside the service area.", published.bikes),
        ("outside_free_bikes", "Free bikes of the newest snapshot outside the service area.", published.bikes_outside),
        ("future_snapshots", "Snapshots dated in the future, which do not count yet.", published.future_snapshots),
    ):
        yield _gauge(name, text, value)
