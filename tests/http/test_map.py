"""The map, served and as a file: what it shows, that it asks nobody else, and that names stay data."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import BikeflowError
from bikeflow.http.pages import map_file, map_page
from bikeflow.settings.sections import MapSettings
from tests.http.conftest import NOON, Scene
from tests.support.lines import bike, raw_file, station

HOSTILE = (
    "</script><script>document.documentElement.dataset.broken = 1</script>"
    "<img src=x onerror='document.documentElement.dataset.broken = 1'> {{settings}} {{policy}} \u2028 „Ż”"
)
TILES = MapSettings(tile_url="https://tiles.example.org/{z}/{x}/{y}.png", tile_attribution="© <b>Some & Co</b>")


def document_in(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="document">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


async def test_the_map_has_what_is_there_now_and_how_it_was_in_the_last_days_hours(scene: Scene) -> None:
    for hours, bikes in ((26, "9"), (1, "4"), (0, "6")):
        lines = station(1, bikes=bikes), station(2, lat="52.2", bikes="3"), bike(1, battery="40", lon="17.1")
        await scene.arrives(raw_file(*lines), NOON - dt.timedelta(hours=hours))
    newest = raw_file(station(1, bikes="1"), station(2, lat="52.2", bikes="3"), bike(1, battery="40", lon="17.1"))
    await scene.arrives(newest, NOON + dt.timedelta(minutes=30))
    told = (await scene.client.ask("/api/v1/map")).json
    assert told["snapshot"] == "2025-06-01T12:30:00Z"
    assert [(item["station_id"], item["bikes"]) for item in told["stations"]] == [("1", 1), ("2", 3)]
    assert [(item["station_id"], item["battery_level"]) for item in told["bikes"]] == [("fb1", 40)]
    eleven = int((NOON - dt.timedelta(hours=1)).timestamp())
    frames = told["frames"]
    assert [frame["at"] for frame in frames] == [eleven, eleven + 3600, None]
    assert [frame["stations"] for frame in frames] == [{"1": 4, "2": 3}, {"1": 6, "2": 3}, {"1": 1, "2": 3}]
    # the second station is outside the service area
    assert [sorted(frame["cells"].values()) for frame in frames] == [[1, 4], [1, 6], [1, 1]]
    assert all(frame["cells"].keys() <= told["cells"].keys() for frame in frames)
    places = [(item["lat"], item["lon"]) for item in (told["stations"][0], told["bikes"][0])]
    for lat, lon in places:
        assert sum(s <= lat < n and w <= lon < e for s, w, n, e in told["cells"].values()) == 1


async def test_an_empty_lake_has_an_empty_map_and_none_at_all_is_told(scene: Scene) -> None:
    assert (await scene.client.ask("/api/v1/map")).status == 503
    await scene.pipeline.reconcile()
    await scene.pipeline.shared.refresher.refresh_once()
    told = (await scene.client.ask("/api/v1/map")).json
    assert told["snapshot"] is None and told["stations"] == [] and len(told["frames"]) == 1


async def test_the_map_asks_nobody_else_and_runs_only_its_own_scripts(scene: Scene) -> None:
    answer = await scene.client.ask("/map")
    directives = dict(item.split(" ", 1) for item in answer.headers["Content-Security-Policy"].split("; "))
    for element in ("script", "style"):
        bodies = re.findall(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        assert directives[f"{element}-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert directives["default-src"] == "'none'" and directives["connect-src"] == "'self'"
    assert directives["img-src"] == "data:" and "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    own = answer.text.rpartition("<script>")[2]
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert unsafe not in own
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(?!data:)", answer.text)
    assert document_in(answer.text) is None and "sourceMappingURL" not in answer.text


def test_tiles_come_only_from_the_server_that_the_operator_names() -> None:
    page = map_page(TILES)
    assert "img-src data: https://tiles.example.org;" in page.policy
    (settings,) = re.findall(r'id="settings">(.*?)</script>', page.html)
    assert json.loads(settings)["tile_attribution"] == "© &lt;b&gt;Some &amp; Co&lt;/b&gt;"
    assert html.escape("img-src data: https://tiles.example.org;") in map_file(TILES, b"null")


@pytest.mark.parametrize(
    "wrong",
    [
        {"tile_url": "https://t.example/{z}/{x}/{y}.png"},
        {"tile_url": "https://t.example/{z}.png", "tile_attribution": "them"},
        {"tile_url": "https://a:b@t.example/{z}/{x}/{y}.png", "tile_attribution": "them"},
        {"tile_url": "https://{s}.example/{z}/{x}/{y}.png", "tile_attribution": "them"},
        {"tile_url": "https://t.example; script-src */{z}/{x}/{y}.png", "tile_attribution": "them"},
    ],
)
def test_tiles_without_attribution_or_with_an_odd_address_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        MapSettings(**wrong)


async def test_the_command_writes_one_file_in_which_names_are_data(scene: Scene, tmp_path: Path) -> None:
    await scene.arrives(raw_file(station(1, name=f'"{HOSTILE}"')))
    out = tmp_path / "map.html"
    arguments = ["map", "--data-dir", str(tmp_path), "--out", str(out)]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exception is None and "no network needed" in result.stdout
    text = out.read_text()
    assert document_in(text)["stations"][0]["name"] == HOSTILE
    assert text.count("<script") == text.count("</script>") == 4
    assert text.count("http-equiv") == 1 and "connect-src &#x27;none&#x27;" in text


def test_without_a_database_the_command_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["map", "--data-dir", str(tmp_path), "--out", str(tmp_path / "map.html")])
    assert isinstance(result.exception, BikeflowError) and "bikeflow demo" in str(result.exception)


@pytest.mark.parametrize("served", [True, False])
async def test_in_a_browser_the_map_is_drawn_and_a_hostile_name_is_text(
    scene: Scene, tmp_path: Path, served: bool
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    await scene.arrives(raw_file(station(1, name=f'"{HOSTILE}"'), bike(1)))
    url = f"{scene.client.url}/map"
    if not served:
        found = await scene.client.ask("/api/v1/map")
        file = tmp_path / "map.html"
        file.write_text(map_file(MapSettings(), found.text.encode()))
        url = file.as_uri()
    options = (
        "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        " --disable-component-update --disable-sync --virtual-time-budget=5000 --enable-logging=stderr --dump-dom"
    )
    browser = await asyncio.create_subprocess_exec(
        chromium, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await browser.communicate()
    page = output.decode()
    assert ":CONSOLE" not in errors.decode()  # neither an error nor a breach of the policy
    assert "1 station and 1 free bike in the service area" in page and "1 June 2025, 12:00 UTC" in page
    assert "leaflet-zoom-animated" in page and "<canvas" in page
    # one station alone is seen from near enough for its name
    assert f">{html.escape(HOSTILE, quote=False)}<" in page
    assert "data-broken" not in page.partition(">")[2].partition(">")[0]
