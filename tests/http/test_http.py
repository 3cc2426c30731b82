"""What the service answers over HTTP, over a real lake and database."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import io
import re
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from pydantic import ValidationError

from bikeflow.core.errors import BikeflowError, Permanent
from bikeflow.core.events import Events
from bikeflow.core.layout import segment_of
from bikeflow.http.client import ADDRESS_FILE, ask_status
from bikeflow.http.pages import page
from bikeflow.http.site import open_site
from bikeflow.service.demo import demo_settings
from bikeflow.settings.sections import HttpSettings
from tests.http.conftest import NOON, Scene, client_of, settings_for
from tests.support.lines import bike, raw_file, station
from tests.support.pipelines import wrm_lane
from tests.support.wrm import wrm_day

HOSTILE = """</script><script>alert('x')</script><img src=x onerror=alert(1)> & {{7*7}}"""
PATHS = (
    "/map",
    "/api/v1/map",
    "/",
    "/map",
    "/healthz",
    "/readyz",
    "/metrics",
    *(f"/api/v1/{name}" for name in ("status", "stations", "bikes", "forecast", "map", "runs")),
)


async def test_before_the_pipeline_is_open_the_service_is_alive_but_not_ready(tmp_path: Path) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site, client_of(site.url) as client:
        assert (await client.ask("/healthz")).json == {"alive": True}
        ready = await client.ask("/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert {part["reason"] for part in ready.json["parts"].values()} == {"the service is starting"}
        status = (await client.ask("/api/v1/status")).json
        assert (status["state"], status["lake"], status["city"], status["queue"]) == ("starting", None, None, None)
        assert 'bikeflow_part_ready{part="fetching"} 0.0' in (await client.ask("/metrics")).text
        for path in ("stations", "bikes", "forecast", "runs"):
            answer = await client.ask(f"/api/v1/{path}")
            assert (answer.status, list(answer.json)) == (503, ["error"])


async def test_stations_and_bikes_are_geojson_of_the_newest_state(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1, bikes="3", lat="51.1", lon="17.05"), station(2), bike(5, battery="40")))
    later = raw_file(station(1, bikes="7", lat="51.1", lon="17.05"), station(2))
    await scene.arrives(later, NOON + dt.timedelta(hours=1))
    answer = await scene.client.ask("/api/v1/stations")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/geo+json")
    first, second = answer.json["features"]
    assert answer.json["type"] == "FeatureCollection" and second["id"] == "2"
    assert first["geometry"] == {"type": "Point", "coordinates": [17.05, 51.1]}
    assert first["properties"] | {"bikes": 7, "file_timestamp": "2025-06-01T13:00:00Z"} == first["properties"]
    assert (await scene.client.ask("/api/v1/bikes")).json == {"type": "FeatureCollection", "features": []}
    await scene.arrives(raw_file(station(1), bike(5, battery="40")), NOON + dt.timedelta(hours=2))
    (free,) = (await scene.client.ask("/api/v1/bikes")).json["features"]
    assert (free["id"], free["properties"]["battery_level"]) == ("fb5", 40)
    forecast = (await scene.client.ask("/api/v1/forecast")).json
    assert forecast["status"].startswith("not enough history: ")
    assert (forecast["stations"], forecast["scores"]) == ([], [])


async def test_runs_are_told_newest_first_and_as_many_as_asked_for(scene: Scene) -> None:
    for hour in range(3):
        await scene.arrives(raw_file(station(1), station(2, bikes="x")), NOON + dt.timedelta(hours=hour))
    runs = (await scene.client.ask("/api/v1/runs")).json["runs"]
    assert len(runs) == 3 and runs == sorted(runs, key=lambda run: str(run["started_at"]), reverse=True)
    assert (
        runs[0] | {"system_id": "wrm", "partition": "2025-06-01", "outcome": "done", "rows": 1, "rejected": 1}
        == runs[0]
    )
    assert runs[0]["duration_seconds"] >= 0 and runs[0]["started_at"].endswith("Z")
    assert (await scene.client.ask("/api/v1/runs?limit=1")).json["runs"] == runs[:1]
    for limit in ("0", "1001", "x", "-1", "", "1e3", "9" * 5000):
        assert (await scene.client.ask(f"/api/v1/runs?limit={limit}")).status == 400


async def test_the_status_tells_how_things_stand_and_how_the_city_looks(scene: Scene) -> None:
    lines = [station(n, bikes=str(n), spaces=str(10 - n), total_docks="10", name=f"Plac {n}") for n in range(11)]
    await scene.arrives(raw_file(*lines, bike(5), "broken"), NOON - dt.timedelta(minutes=30))
    await scene.arrives(raw_file(*lines[1:], bike(5)), NOON)
    await wrm_lane(scene.pipeline).fetcher.fetch_once()
    status = (await scene.client.ask("/api/v1/status")).json
    assert status["state"] == "failing" and "no new snapshots come in" in status["sentence"]
    assert status["parts"]["processing"] == {"works": True}
    assert "127.0.0.1:9" in status["parts"]["fetching"]["reason"]
    assert status["feed"]["last_fetch"]["outcome"] == "failed" and status["feed"]["fetches"] == {"failed": 1}
    assert status["lake"] | {"raw_files": 2, "lines": 24, "rows": 23, "rejected": 1} == status["lake"]
    assert status["database"]["rows"] == 23 and status["database"]["newest_snapshot"] == "2025-06-01T12:00:00Z"
    assert (status["today"]["rows"], len(status["latest_runs"])) == (0, 2)
    city = status["city"]
    assert (city["stations"], city["bikes_at_stations"], city["free_bikes"]) == (10, 55, 1)
    assert (city["empty_stations"], city["full_stations"]) == (0, 1)
    assert [place["name"] for place in city["fullest"][:2]] == ["Plac 10", "Plac 9"]
    assert [place["name"] for place in city["emptiest"][:2]] == ["Plac 1", "Plac 2"]
    assert city["last_day"] == [[int(NOON.timestamp()) - 1800, 55.0], [int(NOON.timestamp()), 55.0]]


async def test_counts_that_no_city_has_do_not_take_the_status_away(scene: Scene) -> None:
    silly = str(2**63 - 1)
    await scene.arrives(raw_file(*(station(n, bikes=silly) for n in range(3))))
    answer = await scene.client.ask("/api/v1/status")
    assert answer.status == 200 and answer.json["city"]["bikes_at_stations"] == 2**63 - 1
    assert (await scene.client.ask("/api/v1/map")).status == 200


async def test_a_partition_that_fails_is_told_with_its_reason_until_it_is_mended(scene: Scene) -> None:
    key = scene.layout.segment_key("enhanced", segment_of(wrm_day(NOON.date()), NOON, 60))
    foreign = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), foreign)
    await scene.store.put(key, foreign.getvalue())
    await scene.arrives(raw_file(station(1)))
    unready = await scene.client.unready()
    assert (
        unready["processing"].startswith("partition wrm 2025-06-01: segment 12:00-12:59:")
        and key in unready["processing"]
    )
    (failing,) = (await scene.client.ask("/api/v1/status")).json["failing_partitions"]
    assert (failing["system_id"], failing["partition"]) == ("wrm", "2025-06-01") and failing["retry_at"].endswith("Z")
    await scene.store.delete(key)
    await scene.arrives(raw_file(station(1)))
    assert "processing" not in await scene.client.unready()


async def test_a_refresh_that_fails_is_told_with_its_reason_until_one_succeeds(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1)))
    database = scene.pipeline.database_path
    database.unlink()
    assert "is gone" in (await scene.client.unready())["refreshing"]
    database.mkdir()
    (database / "in the way").touch()
    with pytest.raises(BikeflowError):
        await scene.arrives(raw_file(station(2)))
    assert "Is a directory" in (await scene.client.unready())["refreshing"]
    (database / "in the way").unlink()
    database.rmdir()
    await scene.arrives(raw_file(station(3)))
    assert "refreshing" not in await scene.client.unready()


async def test_once_it_is_stopping_nothing_is_ready(scene: Scene) -> None:
    scene.site.health.stopping()
    assert set((await scene.client.unready()).values()) == {"the service is stopping"}
    assert (await scene.client.ask("/healthz")).status == 200


@pytest.mark.parametrize("path", [*PATHS, "/nothing-here", "/api/v1/"])
async def test_every_answer_keeps_to_itself(scene: Scene, path: str) -> None:
    answer = await scene.client.ask(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "bikeflow"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert (answer.status == 404) == (path not in PATHS)
    if answer.status == 404:
        assert list(answer.json) == ["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(scene: Scene, method: str) -> None:
    for path in PATHS:
        answer = await scene.client.ask(path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


async def test_names_from_the_feed_are_data_wherever_they_are_shown(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1, name=f'"{HOSTILE}"'), bike(5)))
    for path in PATHS:
        answer = await scene.client.ask(path)
        if answer.headers["Content-Type"].startswith("text/html"):
            assert HOSTILE not in answer.text
        elif HOSTILE in answer.text:
            assert "json" in answer.headers["Content-Type"]
    assert (await scene.client.ask("/api/v1/stations")).json["features"][0]["properties"]["name"] == HOSTILE
    assert (await scene.client.ask("/api/v1/status")).json["city"]["fullest"][0]["name"] == HOSTILE
    assert "alert(" not in (await scene.client.ask("/metrics")).text


async def test_the_dashboard_is_one_page_that_asks_nobody_else(scene: Scene) -> None:
    answer = await scene.client.ask("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    html = re.sub(r"http://www\.w3\.org/2000/svg", "", answer.text)  # a name, not an address
    assert not re.search(r"(?:https?:)?//[a-z0-9]", html)
    assert not re.search(r"\bsrc=|@import|url\(|<link[^>]+stylesheet|\sstyle=|\son\w+=|javascript:", html)
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert unsafe not in html
    assert set(re.findall(r'href="([^"]+)"', html)) >= {"metrics", "readyz", "api/v1/stations", "api/v1/status"}


async def test_the_dashboards_policy_allows_exactly_its_own_script_and_style(scene: Scene) -> None:
    answer = await scene.client.ask("/")
    directives = dict(item.split(" ", 1) for item in answer.headers["Content-Security-Policy"].split("; "))
    for element in ("script", "style"):
        (body,) = re.findall(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert directives[f"{element}-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'" and directives["connect-src"] == "'self'"
    assert "unsafe" not in page("dashboard").policy


async def test_whoever_asks_all_the_time_neither_breaks_nor_sees_a_broken_publication(scene: Scene) -> None:
    await scene.arrives(raw_file(station(0)))
    done = asyncio.Event()

    async def asks() -> int:
        count = 0
        while not done.is_set():
            for path in ("stations", "bikes", "status"):
                answer = await scene.client.ask(f"/api/v1/{path}")
                assert answer.status == 200 and answer.json.get("city", True)
                count += 1
        return count

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(asks()) for _ in range(3)]
        for minute in range(1, 15):
            lines = [station(number) for number in range(minute + 1)]
            await scene.arrives(raw_file(*lines), NOON + dt.timedelta(minutes=minute))
        done.set()
    assert min(reader.result() for reader in readers) > 3
    assert not list(scene.pipeline.database_path.parent.glob("*.damaged-*"))
    assert len((await scene.client.ask("/api/v1/stations")).json["features"]) == 15


async def test_the_address_stands_in_a_file_while_the_service_answers(tmp_path: Path) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site:
        assert site.url == (tmp_path / ADDRESS_FILE).read_text().strip()
        status = await asyncio.to_thread(ask_status, tmp_path)
        assert status is not None and status["state"] == "starting"
    assert not (tmp_path / ADDRESS_FILE).exists()
    assert ask_status(tmp_path) is None


async def test_the_status_of_another_service_at_an_old_address_is_not_taken_for_ours(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    ours.mkdir()
    async with open_site(settings_for(others), Events()) as site:
        (ours / ADDRESS_FILE).write_text(f"{site.url}\n")
        assert await asyncio.to_thread(ask_status, ours) is None
    for nonsense in ("", "http://127.0.0.1:1/", "nonsense", "http://[::1", "http://127.0.0.1:x/"):
        (ours / ADDRESS_FILE).write_text(nonsense)
        assert ask_status(ours) is None


async def test_an_empty_address_serves_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path).model_copy(update={"http": HttpSettings(listen="")})
    async with open_site(settings, Events()) as site:
        assert site.url is None
        assert site.health.sentence().startswith("Starting")
        assert not (tmp_path / ADDRESS_FILE).exists()


async def test_a_port_that_is_taken_costs_no_snapshot_but_is_warned_of(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = settings_for(tmp_path).model_copy(update={"http": HttpSettings(listen=listen)})
        with structlog.testing.capture_logs() as lines:
            async with open_site(settings, Events()) as site, client_of(site.url) as client:
                assert (await client.ask("/healthz")).status == 200
    warning, started = lines
    assert (warning["event"], warning["log_level"], warning["wanted"]) == ("http_port_busy", "warning", listen)
    assert (started["event"], started["url"]) == ("http_started", site.url)


async def test_a_name_that_cannot_be_found_is_one_clear_line(tmp_path: Path) -> None:
    settings = settings_for(tmp_path).model_copy(update={"http": HttpSettings(listen="no-such-host.invalid:0")})
    with pytest.raises(Permanent, match=r"^cannot serve HTTP on no-such-host.invalid:0: .+; set http.listen"):
        async with open_site(settings, Events()):
            pass


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("bikes.example.org:80", ("bikes.example.org", 80)),
        ("", None),
    ],
)
def test_an_address_is_a_host_and_a_port(listen: str, address: tuple[str, int] | None) -> None:
    assert HttpSettings(listen=listen).address == address


@pytest.mark.parametrize("listen", ["8080", ":8080", "localhost", "localhost:99999", "http://x:1", "a b:1", "::1:80"])
def test_anything_else_is_no_address(listen: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(listen=listen)


def test_the_demo_takes_another_port_where_the_usual_one_is_taken(tmp_path: Path) -> None:
    first = demo_settings(tmp_path, "http://127.0.0.1:9/", 1).http.address
    assert first is not None
    with socket.socket() as taken:
        taken.bind(first)
        taken.listen()
        assert demo_settings(tmp_path, "http://127.0.0.1:9/", 1).http.address not in (None, first)
