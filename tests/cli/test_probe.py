"""`bikeflow probe`: what a stranger learns of a GBFS feed, from a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from pathlib import Path

import pytest

from bikeflow.feeds.gbfs.probe import probe
from bikeflow.settings import load_settings
from tests.support.gbfs import AT, HARBOUR, HILL, documents, malformed, packed, recordings
from tests.support.gbfsserver import serve_gbfs


async def probed(url: str, *options: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", "probe", url, *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_it_tells_who_runs_a_system_what_it_holds_and_how_to_add_it(tmp_path: Path) -> None:
    async with serve_gbfs(HARBOUR) as server:
        code, output, _ = await probed(server.url)
        _, document, _ = await probed(server.url, "--json")
    assert code == 0
    for text in ("Harbour Bikes", "Harbour Mobility", "Europe/Oslo", "https://harbour.example/licence", "2.3",
                 "4 stations, 4 vehicles, 10 rejected records", "that are used and not defined: unheard_of",
                 "stations in station_information only, which give no row: h9"):  # fmt: skip
        assert text in output
    found = json.loads(document)
    assert (found["stations"], found["vehicles"], found["rejected"]) == (4, 4, 10)
    assert {item["name"]: item["records"] for item in found["documents"]} == {
        "gbfs": None, "system_information": None, "station_information": 5, "vehicle_types": 3,
        "station_status": 11, "free_bike_status": 7,
    }  # fmt: skip
    assert all(item["age_seconds"] > 0 and item["error"] is None for item in found["documents"])
    odd = {item["what"]: (item["count"], item["examples"]) for item in found["oddities"]}
    assert odd["more vehicles than docks"] == (1, ["h2: 7 of 4"])
    assert odd["unknown numbers written as -1"] == (1, ["h3 num_bikes_available"])
    assert odd["stations in station_status only"] == (4, ["h5", "h6", "h7"])
    assert found["systems_block"] in output
    config = tmp_path / "config.toml"
    config.write_text(output[output.index("[[systems]]") :])
    (system,) = load_settings(config, [], {}).settings.all_systems
    assert (system.id, system.name, system.format, system.feed.url, system.timezone, system.feed.interval_seconds) == (
        "harbour", "Harbour Bikes", "gbfs", server.url, "Europe/Oslo", 60,
    )  # fmt: skip
    assert (system.rules.lat_min, system.rules.lon_max) == (59.89, 10.77)


async def test_a_document_that_fails_is_told_and_does_not_hide_the_others() -> None:
    async with serve_gbfs(HARBOUR) as server:
        server.status["vehicle_types"] = 503
        code, output, errors = await probed(server.url)
    assert code == 0 and "answers 503" in output and "4 stations" in output and errors == ""


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://127.0.0.1:9/gbfs.json", 1, "cannot connect"),
        ("ftp://example.org", 2, "ftp://example.org is no URL: it must begin with http:// or https://"),
        ("http://user:secret@127.0.0.1:9/", 2, "user name or password"),
    ],
)
async def test_an_address_that_cannot_be_used_is_one_line(url: str, code: int, message: str) -> None:
    found, output, errors = await probed(url)
    assert (found, output) == (code, "") and message in errors and len(errors.splitlines()) == 1


async def test_a_feed_without_stations_and_vehicles_is_refused() -> None:
    async with serve_gbfs(HILL) as server:
        server.bodies = {"gbfs": json.dumps({"data": {"feeds": []}}).encode()}
        code, _, errors = await probed(server.url)
    assert code == 1 and "it lists neither station_status nor vehicle_status" in errors


@pytest.mark.parametrize("folder", recordings(), ids=lambda folder: "-".join(folder.parts[-2:]))
def test_every_recording_can_be_looked_at(folder: Path, tmp_path: Path) -> None:
    found = probe("http://feed.example/gbfs.json", packed(documents(folder)), AT)
    for name, count in (("station_information", "stations"), ("station_status", "stations")):
        path = folder / f"{name}.json"
        if path.is_file():
            told = next(item for item in found.documents if item.name == name)
            assert told.records == len(json.loads(path.read_bytes())["data"][count])
    config = tmp_path / "config.toml"
    config.write_text(found.systems_block)
    assert len(load_settings(config, [], {}).settings.all_systems) == 1


@pytest.mark.parametrize("path", malformed(), ids=lambda path: path.name)
def test_broken_documents_can_be_looked_at(path: Path) -> None:
    name = next(one for one in ("station_information", "station_status", "system_information") if one in path.name)
    found = probe("http://feed.example/", packed(documents(HARBOUR) | {name: path.read_bytes()}), AT)
    if name != "system_information":
        assert any(item.what.startswith(f"rejected: {name}: not ") for item in found.oddities)


@pytest.mark.parametrize(
    ("set_name", "expected"),
    [
        (
            "mybuxi_ch/2.3",
            {"station_status: an id is there more than once", "stations that do not tell their free docks"},
        ),
        ("lyft_chi/2.3", {"station_status: truth values are 0 and 1", "more vehicles than docks"}),
        ("careem_dubai/2.3", {"stations in station_status only", "never reported, as far as is told"}),
        ("tier_paris_anonymised/3.0", {"vehicle types that are used and not defined"}),
        ("stadtnavi_car-sharing/2.2", {"unknown numbers written as -1"}),
        ("bicing_barcelona/1.x", {"station_status: the id is a number, not a text"}),
        (
            "hsl_helsinki/1.x",
            {"stations without a position", "station_information: a record without an id"},
        ),
        ("fr_bird-castres/2.3", {"empty lists"}),
    ],
)
def test_what_is_known_to_be_odd_in_recordings_is_told(set_name: str, expected: set[str]) -> None:
    folder = next((one for one in recordings() if one.parts[-2:] == tuple(set_name.split("/"))), None)
    if folder is not None:
        found = probe("http://feed.example/", packed(documents(folder)), dt.datetime.now(dt.UTC))
        assert expected <= {item.what for item in found.oddities}
