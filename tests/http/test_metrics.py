"""The metrics: names, units and types as Prometheus wants them, and numbers that are right."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from bikeflow import __version__
from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.events import Events
from bikeflow.http.site import Site
from bikeflow.service.pipeline import open_pipeline
from bikeflow.store.counting import CountingStore
from tests.http.conftest import NOON, Scene, settings_for
from tests.support import feedserver
from tests.support.lines import bike, raw_file, station
from tests.support.pipelines import wrm_lane

UNITS = (
    "_seconds",
    "_bytes",
    "_info",
    "_snapshots",
    "_files",
    "_jobs",
    "_rows",
    "_stations",
    "_free_bikes",
    "_ready",
    "_successful",
)
COUNTED = (
    "_documents",
    "_exports",
    "_seconds",
    "_bytes",
    "_fetches",
    "_snapshots",
    "_runs",
    "_files",
    "_lines",
    "_rows",
    "_requests",
    "_messages",
)
LABELS = {"system", "target", "outcome", "operation", "check", "flag", "part", "state", "le", "version", "python"}


def parsed(text: str) -> list[Metric]:
    """The metric families of a scrape."""
    return list(text_string_to_metric_families(text))


async def samples(scene: Scene) -> dict[str, float]:
    """All samples of one scrape, by name and labels as they stand in the text."""
    text = (await scene.client.ask("/metrics")).text
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in parsed(text)
        for sample in family.samples
    }


async def test_every_metric_has_a_help_text_a_base_unit_and_known_labels(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1), station(2, bikes="x")))
    families = parsed((await scene.client.ask("/metrics")).text)
    assert len(families) > 25
    for family in families:
        assert re.fullmatch(r"(bikeflow|process)_[a-z_]+", family.name) and family.documentation
        assert family.name.endswith(COUNTED if family.type == "counter" else (*UNITS, "_fds"))
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert not sample.name.endswith("_created") and not math.isnan(sample.value)


async def test_openmetrics_is_given_to_those_who_ask_for_it(scene: Scene) -> None:
    answer = await scene.client.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics(answer.text))  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"bikeflow_build", "bikeflow_fetches"}


async def test_runs_are_counted_with_rows_and_with_what_was_rejected_and_flagged(scene: Scene) -> None:
    good, far = station(1), station(3, lat="52.2")
    await scene.arrives(raw_file(good, far, station(2, bikes="x"), station(2, bikes="-1"), "a,b", good))
    await scene.arrives("this is no feed document\nat all\nat all\n", NOON + dt.timedelta(hours=1))
    seen = await samples(scene)
    assert (
        seen["bikeflow_runs_total{outcome=done,system=wrm}"] == 2
        and seen["bikeflow_runs_total{outcome=failed,system=wrm}"] == 0
    )
    counts = {name: seen[f"bikeflow_{name}_total{{system=wrm}}"] for name in ("raw_files", "lines", "rows")}
    assert counts == {"raw_files": 2, "lines": 8, "rows": 2}
    rejected = {name: value for name, value in seen.items() if name.startswith("bikeflow_rejected_lines_total")}
    assert rejected == {
        f"bikeflow_rejected_lines_total{{check={check},system=wrm}}": 2 if check == "header" else 1
        for check in ("type", "range", "field_count", "unique", "header")
    }
    assert seen["bikeflow_flagged_rows_total{flag=outside_service_area,system=wrm}"] == 1
    assert seen["bikeflow_flagged_rows_total{flag=over_capacity,system=wrm}"] == 0
    assert (
        seen["bikeflow_run_duration_seconds_count{system=wrm}"]
        == seen["bikeflow_queue_wait_seconds_count{system=wrm}"]
        == 2
    )


async def test_the_database_and_the_store_are_told_of(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1), station(2), bike(5)), dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10))
    seen = await samples(scene)
    assert seen["bikeflow_refresh_duration_seconds_count{}"] == 1
    assert (seen["bikeflow_stations{}"], seen["bikeflow_free_bikes{}"], seen["bikeflow_database_rows{}"]) == (2, 1, 3)
    assert 600 <= seen["bikeflow_newest_snapshot_age_seconds{}"] < 660
    assert 0 <= seen["bikeflow_database_age_seconds{}"] < 60
    assert seen["bikeflow_database_size_bytes{}"] == scene.pipeline.database_path.stat().st_size
    assert seen["bikeflow_store_requests_total{operation=put,outcome=ok}"] == 3
    assert seen["bikeflow_store_requests_total{operation=delete,outcome=ok}"] == 0


async def test_fetches_are_counted_by_outcome(tmp_path: Path) -> None:
    async with feedserver.serve() as feed:
        text = raw_file(*(station(number) for number in range(20)))
        served = feedserver.document(text, etag='"1"')
        feed.answers(served, served, feedserver.Reply(status=304), feedserver.Reply(status=404))
        settings, events = settings_for(tmp_path, feed.url), Events()
        site = Site(settings)
        with events.heard_by(site.metrics.observe):
            async with open_pipeline(settings, events) as pipeline:
                site.health.attach(pipeline.vitals)
                for _ in range(4):
                    await wrm_lane(pipeline).fetcher.fetch_once()
                page, _ = site.metrics.page("")
    lines = page.decode().splitlines()
    for outcome in ("stored", "duplicate", "not_modified", "failed"):
        assert f'bikeflow_fetches_total{{outcome="{outcome}",system="wrm"}} 1.0' in lines
    for sample, value in (
        ("bikeflow_duplicate_snapshots_total", 2),
        ("bikeflow_fetch_duration_seconds_count", 4),
        ("bikeflow_fetched_bytes_total", 2 * len(text)),
        ("bikeflow_spool_size_bytes", len(text)),
        ("bikeflow_spool_snapshots", 1),
    ):
        assert f'{sample}{{system="wrm"}} {value:.1f}' in lines


async def test_the_build_the_process_and_the_loop_are_told_of(scene: Scene) -> None:
    seen = await samples(scene)
    (build,) = [name for name in seen if name.startswith("bikeflow_build_info")]
    assert f"version={__version__}" in build and seen[build] == 1
    now = dt.datetime.now(dt.UTC).timestamp()
    assert now - 60 < seen["bikeflow_start_time_seconds{}"] <= now
    assert seen["process_resident_memory_bytes{}"] > 10_000_000
    assert "bikeflow_event_loop_lag_seconds_count{}" in seen


async def test_nothing_goes_to_the_registry_that_all_of_a_process_share(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1)))
    assert "bikeflow" not in prometheus_client.generate_latest().decode()


async def test_requests_to_the_store_are_told_by_how_they_ended(scene: Scene) -> None:
    told: list[tuple[str, str]] = []
    store = CountingStore(scene.store, lambda event: told.append((event.operation, event.outcome)))
    for number in range(3):
        await store.put(f"x/{number}", b"data")
    assert [page async for page in store.pages("x/")] and [page async for page in store.pages("empty/")] == []
    assert (await store.get("x/1")).data == b"data" and (await store.head("x/1")).size == 4
    await store.delete("x/1")
    for request in (store.get("x/1"), store.head("x/1"), store.put("../x", b""), store.delete("../x")):
        with pytest.raises(Permanent):
            await request
    lake = Path(store.describe())
    await asyncio.to_thread(lake.rename, lake.with_name("away"))
    with pytest.raises(Transient):
        assert [page async for page in store.pages("x/")]
    assert told == [
        *[("put", "ok")] * 3, ("list", "ok"), ("list", "ok"), ("get", "ok"), ("head", "ok"), ("delete", "ok"),
        ("get", "not_found"), ("head", "not_found"), ("put", "permanent"), ("delete", "permanent"),
        ("list", "transient"),
    ]  # fmt: skip
    assert store.local_path("x/2") == scene.store.local_path("x/2")
