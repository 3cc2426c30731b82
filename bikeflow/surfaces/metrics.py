"""What Prometheus is told: counts from events, and states that are asked for at the moment of a scrape.

Names are in base units. The values of labels come from our code and never from a feed, so that no feed can make new
time series.
"""

from __future__ import annotations

import platform
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bikeflow import __version__
from bikeflow.model import (
    AlertSent,
    DatabasePublished,
    Event,
    ExportFinished,
    ExportTarget,
    FetchFinished,
    Outcome,
    RunFinished,
    SchemaDrifted,
    SettingsReloaded,
    StoreAnswered,
    StoreOperation,
    StoreOutcome,
)
from bikeflow.schema import FLAGS

_QUICK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_LAG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """All metrics of one process, in a registry of their own; `states` are the gauges."""

    def __init__(self, states: Collector) -> None:
        # The time at which each counter was made would be a time series of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.registry.register(states)
        ProcessCollector(registry=self.registry)
        Info("bikeflow_build", "The running bikeflow.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        groups = (_Fetches, _Runs, _Refreshes, _Exports, _Reloads, _Alerts, _StoreRequests)
        self._groups = tuple(group(self.registry) for group in groups)
        self.loop_lag_seconds = Histogram(
            "bikeflow_event_loop_lag_seconds",
            "How much later than asked the event loop came back, sampled ten times a second.",
            buckets=_LAG,
            registry=self.registry,
        )

    def observe(self, event: Event) -> None:
        """Count an event."""
        for group in self._groups:
            group.observe(event)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The answer to a scrape, in the format that the header `accept` asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Fetches:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "bikeflow_fetches_total", "Fetches that have ended, by outcome.", ["outcome"], registry=registry
        )
        for outcome in get_args(Outcome):
            self._ended.labels(outcome)
        self._bytes = Counter("bikeflow_fetched_bytes_total", "Size of the documents, unpacked.", registry=registry)
        self._duplicates = Counter(
            "bikeflow_duplicate_snapshots_total",
            "Fetches that gave the same document again, or 304.",
            registry=registry,
        )
        self._seconds = Histogram(
            "bikeflow_fetch_duration_seconds",
            "Duration of a fetch with its retries.",
            buckets=_QUICK,
            registry=registry,
        )

    def observe(self, event: Event) -> None:
        if isinstance(event, FetchFinished):
            fetch = event.outcome
            self._ended.labels(fetch.outcome).inc()
            self._bytes.inc(fetch.bytes)
            self._duplicates.inc(fetch.outcome in ("duplicate", "not_modified"))
            self._seconds.observe(fetch.duration_seconds)


class _Runs:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bikeflow_{name}_total", text, labels, registry=registry)

        self._ended = counter("runs", "Runs over a partition that have ended, by outcome.", "outcome")
        for outcome in ("done", "failed"):
            self._ended.labels(outcome)
        self._files = counter("raw_files", "Raw files parsed.")
        self._drifted = counter("drifted_files", "Raw files parsed that have columns which nobody knows.")
        self._lines = counter("lines", "Data lines of those raw files.")
        self._rows = counter("rows", "Accepted lines.")
        self._rejected = counter("rejected_lines", "Rejected lines, by the check that they failed.", "check")
        self._flagged = counter("flagged_rows", "Accepted lines that are odd, by flag.", "flag")
        for flag in FLAGS:
            self._flagged.labels(flag)
        self._seconds = Histogram(
            "bikeflow_run_duration_seconds", "Duration of a run.", buckets=_LONG, registry=registry
        )
        self._waited = Histogram(
            "bikeflow_queue_wait_seconds", "Time that a job waited for its run.", buckets=_QUICK, registry=registry
        )

    def observe(self, event: Event) -> None:
        if isinstance(event, SchemaDrifted):
            self._drifted.inc()
        if isinstance(event, RunFinished):
            run = event.run
            self._ended.labels(run.outcome).inc()
            self._files.inc(run.files)
            self._lines.inc(run.lines)
            self._rows.inc(run.rows)
            for check, lines in event.rejected_by_check.items():
                self._rejected.labels(check).inc(lines)
            for flag, rows in event.flagged_by_flag.items():
                self._flagged.labels(flag).inc(rows)
            self._seconds.observe((run.finished_at - run.started_at).total_seconds())
            self._waited.observe(event.waited_seconds)


class _Refreshes:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "bikeflow_refresh_duration_seconds",
            "Duration of a refresh that published the database.",
            buckets=_LONG,
            registry=registry,
        )

    def observe(self, event: Event) -> None:
        if isinstance(event, DatabasePublished):
            self._seconds.observe(event.duration_seconds)


class _Reloads:
    """Named as Prometheus names its own; before any reload, the settings of the start are in force."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._successful = Gauge(
            "bikeflow_config_last_reload_successful",
            "1 while the last reload of the settings was applied, 0 where it was refused.",
            registry=registry,
        )
        self._success_at = Gauge(
            "bikeflow_config_last_reload_success_timestamp_seconds",
            "When the settings in force were loaded, in Unix time.",
            registry=registry,
        )
        self._successful.set(1)
        self._success_at.set_to_current_time()

    def observe(self, event: Event) -> None:
        if isinstance(event, SettingsReloaded):
            self._successful.set(event.applied)
            if event.applied:
                self._success_at.set(event.at.timestamp())


class _Exports:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "bikeflow_exports_total",
            "Exports of the published database that have ended, by target and outcome.",
            ["target", "outcome"],
            registry=registry,
        )
        self._skipped = Gauge(
            "bikeflow_export_skipped_rows",
            "Rows of the published database that the target can't hold, and lacks since the last export.",
            ["target"],
            registry=registry,
        )
        for target in get_args(ExportTarget):
            for outcome in ("done", "failed"):
                self._ended.labels(target, outcome)
            self._skipped.labels(target)

    def observe(self, event: Event) -> None:
        if isinstance(event, ExportFinished):
            self._ended.labels(event.target, event.outcome).inc()
            if event.outcome == "done":
                self._skipped.labels(event.target).set(event.skipped_rows)


class _Alerts:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._sent = Counter(
            "bikeflow_alert_messages_total",
            "Messages to people, by whether any of their channels took them.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("arrived", "refused"):
            self._sent.labels(outcome)

    def observe(self, event: Event) -> None:
        if isinstance(event, AlertSent):
            self._sent.labels("arrived" if event.arrived else "refused").inc()


class _StoreRequests:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "bikeflow_store_requests_total",
            "Requests to the object store that have ended, by operation and outcome.",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation in get_args(StoreOperation):
            for outcome in get_args(StoreOutcome):
                self._ended.labels(operation, outcome)

    def observe(self, event: Event) -> None:
        if isinstance(event, StoreAnswered):
            self._ended.labels(event.operation, event.outcome).inc()
